package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/observed"
)

const (
	// settle is how long events are gathered before the links are published:
	// one change of an interface comes as several events.
	settle = 5 * time.Millisecond
	// settleMost bounds the wait while events keep coming.
	settleMost = 50 * time.Millisecond
	// receiveBuffer holds the events of a busy node's pods for a while.
	receiveBuffer = 1 << 20

	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// Config is what a Watcher is made of.
type Config struct {
	Logger *slog.Logger
	// OnChange, if set, is called with the new links whenever they changed,
	// first when they become known. It is called from the room's goroutine,
	// must not block and must not change the links.
	OnChange func(observed.Links)
}

// A Watcher is the room of the network interfaces.
type Watcher struct {
	log      *slog.Logger
	onChange func(observed.Links)
	dial     func() (source, error)
	links    atomic.Pointer[observed.Links]
}

// A source is where events come from.
type source interface {
	// Dump returns every link and address as messages.
	Dump() ([]netlink.Message, error)
	// Receive waits for events. Any error, also that some were lost, is final.
	Receive() ([]netlink.Message, error)
	// Close ends Receive. It may be repeated.
	Close() error
}

// New makes a Watcher that knows nothing yet.
func New(cfg Config) *Watcher {
	w := &Watcher{log: cfg.Logger, onChange: cfg.OnChange, dial: dial}
	if w.onChange == nil {
		w.onChange = func(observed.Links) {}
	}
	return w
}

// Observed returns the links of this moment, nil while they are not known.
func (w *Watcher) Observed() observed.Links {
	if links := w.links.Load(); links != nil {
		return *links
	}
	return nil
}

// Run watches until ctx ends; then it returns nil after its goroutines have
// ended. Failures are retried.
func (w *Watcher) Run(ctx context.Context) error {
	pause := retryFirst
	for {
		began := time.Now()
		err := w.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > retryMost {
			pause = retryFirst
		}
		w.log.Warn("cannot watch the interfaces, trying again", "err", err, "after", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, retryMost)
	}
}

// batch is what one Receive gave.
type batch struct {
	messages []netlink.Message
	err      error
}

// watch works with one connection until it fails or ctx ends.
func (w *Watcher) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	src, err := w.dial()
	if err != nil {
		cancel()
		return err
	}
	batches, done := make(chan batch), make(chan struct{})
	go func() {
		defer close(done)
		receive(ctx, src, batches)
	}()
	defer func() {
		cancel()
		_ = src.Close()
		<-done
	}()

	s, err := w.resync(src)
	if err != nil {
		return err
	}
	w.publish(s)
	var publish <-chan time.Time
	var since time.Time // of the first event that is not published
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-publish:
			publish = nil
			w.publish(s)
		case b := <-batches:
			if b.err != nil {
				return fmt.Errorf("receive interface events: %w", b.err)
			}
			if !w.apply(s, b.messages) {
				continue
			}
			if publish == nil {
				since = time.Now()
			}
			publish = time.After(min(settle, max(settleMost-time.Since(since), 0)))
		}
	}
}

// receive passes on what the source gives until it fails for good.
func receive(ctx context.Context, src source, batches chan<- batch) {
	for {
		messages, err := src.Receive()
		select {
		case <-ctx.Done():
			return
		case batches <- batch{messages, err}:
		}
		if err != nil {
			return
		}
	}
}

// resync reads the whole state.
func (w *Watcher) resync(src source) (*state, error) {
	messages, err := src.Dump()
	if err != nil {
		return nil, fmt.Errorf("read the interfaces: %w", err)
	}
	s := newState()
	w.apply(s, messages)
	return s, nil
}

// apply takes in messages; one that cannot be read harms only its interface.
func (w *Watcher) apply(s *state, messages []netlink.Message) (changed bool) {
	for _, m := range messages {
		news, err := s.apply(m)
		if err != nil {
			w.log.Warn("ignoring an interface event", "err", err)
		}
		changed = changed || news
	}
	return changed
}

// publish makes the state's links the observed ones, if they differ.
func (w *Watcher) publish(s *state) {
	links := s.snapshot()
	if old := w.links.Load(); old != nil && slices.EqualFunc(*old, links, equal) {
		return
	}
	w.links.Store(&links)
	w.onChange(links)
}

// A conn is the real source: one socket for events, and one for a dump each
// time, so that answers and events do not mix.
type conn struct {
	events *netlink.Conn
}

func dial() (source, error) {
	const groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1)
	events, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("subscribe to interface events: %w", err)
	}
	// A smaller buffer only overflows sooner, and overflow is handled.
	_ = events.SetReadBuffer(receiveBuffer)
	return &conn{events}, nil
}

// Receive implements source.
func (c *conn) Receive() ([]netlink.Message, error) {
	messages, err := c.events.Receive()
	if errors.Is(err, unix.ENOBUFS) {
		// What is still in the socket's queue is older than what was lost, so
		// a dump followed by the queue could end in the past. A new socket
		// has no past.
		return nil, fmt.Errorf("more events than the socket could hold: %w", err)
	}
	return messages, err
}

// Close implements source.
func (c *conn) Close() error { return c.events.Close() }

// Dump implements source.
func (c *conn) Dump() ([]netlink.Message, error) {
	request, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer request.Close()
	links, err := dumpOf(request, unix.RTM_GETLINK, &rtnetlink.LinkMessage{})
	if err != nil {
		return nil, err
	}
	addresses, err := dumpOf(request, unix.RTM_GETADDR, &rtnetlink.AddressMessage{})
	return append(links, addresses...), err
}

// dumpOf asks for all objects of one kind. The kernel marks a dump during which
// the objects changed; it is then asked again.
func dumpOf(c *netlink.Conn, kind netlink.HeaderType, filter rtnetlink.Message) ([]netlink.Message, error) {
	const attempts = 10
	data, err := filter.MarshalBinary()
	if err != nil {
		return nil, err
	}
	for range attempts {
		messages, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request | netlink.Dump},
			Data:   data,
		})
		if err != nil {
			return nil, err
		}
		interrupted := slices.ContainsFunc(messages, func(m netlink.Message) bool {
			return m.Header.Flags&netlink.DumpInterrupted != 0
		})
		if !interrupted {
			return messages, nil
		}
	}
	return nil, fmt.Errorf("the interfaces kept changing during %d dumps", attempts)
}
