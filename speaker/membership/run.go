package membership

import (
	"context"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/heraldlb/herald/speaker/observed"
)

// leaveWithin bounds the farewell.
const leaveWithin = time.Second

// Run joins the ring and keeps it until ctx ends; then it says farewell, unless
// the phase is Restarting, and closes. What can be repaired by waiting, a
// missing secret or a busy port among it, is retried inside. Run is called once.
func (r *Ring) Run(ctx context.Context) error {
	first, text, err := r.awaitKey(ctx)
	if err != nil {
		return nil // ctx ended
	}
	keyring, err := memberlist.NewKeyring(nil, first.Bytes)
	if err != nil {
		return fmt.Errorf("start the gossip ring: %w", err)
	}
	r.mu.Lock()
	r.facts.keyed = true
	r.keys = []keyID{first.ID}
	r.mu.Unlock()

	list := r.open(ctx, keyring)
	if list == nil {
		return nil // ctx ended
	}
	r.mu.Lock()
	r.list = list
	r.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(func() { r.join(ctx, list) })
	wg.Go(func() { r.publish(ctx, list) })
	wg.Go(func() {
		r.keep(ctx, &keeper{r: r, keyring: keyring, text: text, wanted: first, stepped: time.Now()})
	})
	<-ctx.Done()
	r.close(list)
	wg.Wait()
	return nil
}

// open starts memberlist; while the port is taken or the address is not there
// yet it tries again.
func (r *Ring) open(ctx context.Context, keyring *memberlist.Keyring) *memberlist.Memberlist {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		list, err := r.create(ctx, keyring)
		if err == nil {
			return list
		}
		r.log.Error("the gossip ring cannot start", "err", err)
		if !sleep(ctx, delay) {
			return nil
		}
	}
}

func (r *Ring) create(ctx context.Context, keyring *memberlist.Keyring) (*memberlist.Memberlist, error) {
	logger := log.New(newLogWriter(r.log, r.metrics), "", 0)
	nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{r.cfg.Bind.String()},
		BindPort:  r.cfg.Port,
		Logger:    logger,
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s port %d: %w", r.cfg.Bind, r.cfg.Port, err)
	}
	c := memberlist.DefaultLANConfig()
	r.cfg.Tuning.apply(c)
	c.Name = r.cfg.Node
	c.BindAddr = r.cfg.Bind.String()
	c.BindPort = r.cfg.Port
	c.AdvertisePort = r.cfg.Port
	if r.cfg.Advertise.IsValid() {
		c.AdvertiseAddr = r.cfg.Advertise.String()
	}
	c.Transport = transport{nt, ctx}
	c.Keyring = keyring
	c.Logger = logger
	c.Delegate, c.Events = gossip{r}, gossip{r}
	// A node that died may come back under another address at once.
	c.DeadNodeReclaimTime = time.Second
	list, err := memberlist.Create(c)
	if err != nil {
		_ = nt.Shutdown()
		return nil, fmt.Errorf("start memberlist: %w", err)
	}
	return list, nil
}

// transport is memberlist's own, with calls that end when the ring ends.
type transport struct {
	*memberlist.NetTransport
	ctx context.Context
}

func (t transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.DialContext(t.ctx, "tcp", a.Addr)
}

func (t transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// close says farewell and stops memberlist.
func (r *Ring) close(list *memberlist.Memberlist) {
	r.mu.Lock()
	r.list = nil
	restarting := r.self.Phase == observed.Restarting
	r.mu.Unlock()
	if !restarting {
		if err := list.Leave(leaveWithin); err != nil {
			r.log.Warn("the others may not have heard that this speaker leaves", "err", err)
		}
	}
	_ = list.Shutdown() // it never fails: its only error is logged by itself
}

// publish tells the others each new state of this node.
func (r *Ring) publish(ctx context.Context, list *memberlist.Memberlist) {
	// Room for memberlist's own news beside ours in one packet.
	limit := r.cfg.Tuning.UDPBufferSize - 400
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.dirty:
		}
		r.mu.Lock()
		msg, to := appendMessage(nil, r.own()...), r.targets()
		r.mu.Unlock()
		// The wait is for the last of several transmissions, which nobody here
		// needs; memberlist has queued the news before it waits.
		_ = list.UpdateNode(time.Millisecond)
		pause := 50 * time.Millisecond
		if len(msg) <= limit {
			r.queue.QueueBroadcast(news(msg))
		} else {
			if err := sendAll(list, msg, to); err != nil {
				r.log.Debug("a member did not take the new state; it will fetch it", "err", err)
			}
			pause = time.Second
		}
		// A flapping interface must not flood the ring.
		if !sleep(ctx, pause) {
			return
		}
	}
}

// sleep waits for d and returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
