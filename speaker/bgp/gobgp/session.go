package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

const (
	// firstRetry is the first wait after a failure; it doubles up to the
	// connect time.
	firstRetry = time.Second
	// stableTime is how long a session must have been up for its end to count
	// as the first failure.
	stableTime = 10 * time.Second
	// libraryRetry is the wait after the library failed.
	libraryRetry = 5 * time.Second
)

// A session keeps one peer, or one dynamic neighbour, for as long as it runs.
type session struct {
	room *Room
	log  *slog.Logger
	// peer is the name of the BGPPeer.
	peer string
	// once is true for a dynamic neighbour: it ends with its connection.
	once bool
	// after is closed when the session that this one replaces has ended.
	after <-chan struct{}
	// done is closed when this one has.
	done chan struct{}
	// inbound brings the connections of a passive peer; nil for peers that are
	// dialled.
	inbound chan *net.TCPConn
	counts  counts
	wake    chan struct{} // routes are pending
	news    chan struct{} // the hold may have changed

	// mu guards what follows.
	mu      sync.Mutex
	want    desired.Session
	pending map[netip.Prefix]*desired.Attributes
	seen    observed.Session
	gate    *gate
	leaving bool
	without string // what the connection's addresses do not allow
	failed  bool   // BFD says so
	watched bool   // BFD says that the peer is there
	met     bool   // the session was established once
	hold    bgp.Hold
	stopped bool
	cancel  context.CancelFunc
}

// newSession makes a session that has all of its routes pending.
func newSession(r *Room, want desired.Session, routes desired.Routes) *session {
	s := &session{
		room: r, log: r.log.With("peer", want.Name), peer: want.Name,
		done: make(chan struct{}), wake: make(chan struct{}, 1), news: make(chan struct{}, 1),
		want: want, pending: maps.Collect(maps.All(routes)),
		seen: observed.Session{
			Peer: want.Name, Remote: want.Address, Port: want.Port, VRF: want.VRF,
			State: observed.Idle, Since: time.Now(), Reason: reason.SessionStarting,
		},
	}
	if s.pending == nil {
		s.pending = make(map[netip.Prefix]*desired.Attributes)
	}
	if want.Passive {
		s.inbound = make(chan *net.TCPConn, 1)
	}
	return s
}

// change hands the session a difference of its routes.
func (s *session) change(c desired.RouteChange) {
	s.mu.Lock()
	for p, a := range c.Announce {
		s.pending[p] = a
	}
	for _, p := range c.Withdraw {
		s.pending[p] = nil
	}
	s.mu.Unlock()
	poke(s.wake)
}

// poke wakes whoever waits, if it is not about to look anyway.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// takePending takes the routes that the library does not have yet.
func (s *session) takePending() map[netip.Prefix]*desired.Attributes {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending
	s.pending = make(map[netip.Prefix]*desired.Attributes)
	return p
}

// config is the session as wanted now.
func (s *session) config() desired.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.want
}

// stop ends the session for good, with a NOTIFICATION or without a word.
func (s *session) stop(n *bgp.Notification, message string) {
	s.mu.Lock()
	s.stopped = true
	g, cancel := s.gate, s.cancel
	s.mu.Unlock()
	if g != nil {
		s.room.all.Go(func() {
			g.finish(reason.SessionStopped, message, n)
			cancel()
		})
		return
	}
	if cancel != nil {
		cancel()
	}
}

// run keeps the session until ctx ends or stop is called.
func (s *session) run(ctx context.Context) {
	defer close(s.done)
	if s.after != nil {
		<-s.after
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.cancel = cancel
	if s.stopped {
		cancel()
	}
	s.mu.Unlock()
	if s.config().Prefix.IsValid() && !s.once {
		// Its neighbours have sessions of their own.
		s.report(observed.Active, reason.PeerAwaited, "Waiting for neighbours to dial.")
		<-ctx.Done()
	}
	for ctx.Err() == nil {
		if err := s.keep(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("the BGP library failed", "err", err)
			s.report(observed.Idle, reason.BGPFailed, fmt.Sprintf("The BGP library failed: %v.", err))
			sleep(ctx, libraryRetry)
		}
	}
}

// keep runs one library and the connections of it.
func (s *session) keep(ctx context.Context) error {
	want := s.config()
	lib, err := startLibrary(s.log, &s.room.globals, bgp.ASN(want.Peer), want.ID)
	if err != nil {
		return err
	}
	var feeder sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		feeder.Wait()
		lib.stop()
	}()
	// All paths are there before the peer is: a peer that kept them over our
	// restart sees no gap.
	if err := lib.apply(s.takePending()); err != nil {
		return err
	}
	feeder.Go(func() { s.feed(ctx, lib) })
	p := &primer{lib: lib}
	defer p.drop()
	failures := 0
	for ctx.Err() == nil {
		if !s.awaitRelease(ctx) {
			return nil
		}
		conn, why, message := s.connect(ctx, p)
		if conn == nil {
			if ctx.Err() == nil && why != "" {
				s.report(s.resting(), why, message)
			}
		} else {
			began := time.Now()
			if err := s.talk(ctx, lib, p, conn); err != nil {
				return err
			}
			if time.Since(began) > stableTime {
				failures = 0
			}
		}
		if s.once && conn != nil {
			s.stop(nil, "")
			return nil
		}
		if s.inbound != nil {
			continue
		}
		_, _, connect := bgp.Timers(s.config().Peer)
		wait := min(firstRetry<<min(failures, 10), connect)
		failures++
		s.rest(ctx, time.Duration(float64(wait)*(0.75+rand.Float64()/4)))
	}
	return nil
}

// resting is the state between two attempts: Active listens, but we only do so
// for passive peers, and what operators know from routers is Active.
func (s *session) resting() observed.SessionState { return observed.Active }

// rest waits, but not while BFD has news.
func (s *session) rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.news:
	}
}

// feed gives the library the routes that become pending.
func (s *session) feed(ctx context.Context, lib *library) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if err := lib.apply(s.takePending()); err != nil && ctx.Err() == nil {
			s.log.Error("the BGP library refuses routes", "err", err)
		}
	}
}

// awaitRelease waits while BFD holds the session down; false when ctx ended.
func (s *session) awaitRelease(ctx context.Context) bool {
	for ctx.Err() == nil {
		s.mu.Lock()
		held, again := s.hold.Step(time.Now(), s.failed)
		failed := s.failed
		s.mu.Unlock()
		if !held {
			return true
		}
		message := "BFD says that the peer is not there."
		if !failed {
			message = "BFD is up again; after repeated failures the session waits until it has been for a while."
		}
		s.report(observed.HeldDown, reason.BFDSaysDown, message)
		s.rest(ctx, time.Until(again))
	}
	return false
}

// setBFD says whether BFD declares the peer dead, or sees it.
func (s *session) setBFD(failed, watched bool) {
	s.mu.Lock()
	changed := s.failed != failed
	s.failed, s.watched = failed, watched
	if changed && failed {
		s.hold.Step(time.Now(), true)
	}
	g := s.gate
	s.mu.Unlock()
	if !changed {
		return
	}
	if failed && g != nil {
		s.room.all.Go(func() {
			g.finish(reason.BFDSaysDown, "BFD says that the peer is not there.",
				&bgp.Notification{Code: bgp.Cease, Subcode: bgp.BFDDown})
		})
	}
	poke(s.news)
}

// connect reaches the peer, or waits for it to reach us.
func (s *session) connect(ctx context.Context, p *primer) (*net.TCPConn, reason.Reason, string) {
	p.want(ctx, s.peerConfig())
	if s.inbound != nil {
		s.report(observed.Active, reason.PeerAwaited, "Waiting for the peer to dial.")
		timer := time.NewTimer(freshTime)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil, "", ""
		case <-s.news:
			return nil, "", ""
		case <-timer.C:
			p.drop()
			return nil, "", ""
		case conn := <-s.inbound:
			return conn, "", ""
		}
	}
	want := s.config()
	e, why, message := s.endpoint(ctx, want)
	if why != "" {
		return nil, why, message
	}
	s.mu.Lock()
	s.seen.Remote = e.remote.Addr()
	first := s.seen.Reason == reason.SessionStarting
	s.mu.Unlock()
	if first {
		s.report(observed.Connect, reason.SessionStarting, fmt.Sprintf("Connecting to %s.", e.remote))
	}
	conn, err := e.dial(ctx)
	if err != nil {
		why, message := e.explain(err)
		return nil, why, message
	}
	return conn, "", ""
}

// endpoint is where to dial and how.
func (s *session) endpoint(ctx context.Context, want desired.Session) (endpoint, reason.Reason, string) {
	e := endpoint{
		remote: netip.AddrPortFrom(want.Address, want.Port), source: want.Source, device: want.VRF, key: want.Key,
	}
	e.hops.send, e.hops.least = bgp.HopLimits(want.Peer)
	if want.Interface != "" {
		addr, why, message := s.room.neighbors.find(ctx, want.Interface)
		if why != "" {
			return e, why, message
		}
		e.remote = netip.AddrPortFrom(addr, want.Port)
		e.device = want.Interface
	}
	return e, "", ""
}

// peerConfig is what the library is told of the peer. Addresses, keys and hop
// limits are the gate's business; the description never is passed, for it would
// reset the session.
func (s *session) peerConfig() *api.Peer {
	want := s.config()
	hold, keepalive, _ := bgp.Timers(want.Peer)
	if hold == 0 {
		hold, keepalive = libraryHold, libraryHold/3
	}
	p := &api.Peer{
		Conf: &api.PeerConf{PeerAsn: want.PeerASN},
		Timers: &api.Timers{Config: &api.TimersConfig{
			ConnectRetry: 1, IdleHoldTimeAfterReset: 1,
			HoldTime: uint64(hold / time.Second), KeepaliveInterval: uint64(keepalive / time.Second),
		}},
	}
	if want.GracefulRestart {
		p.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(restartTime / time.Second),
			DeferralTime: 10, LocalRestarting: s.room.restarting(want.Name),
		}
	}
	for _, f := range []struct {
		on  bool
		afi api.Family_Afi
	}{{want.IPv4, api.Family_AFI_IP}, {want.IPv6, api.Family_AFI_IP6}} {
		if f.on {
			p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
				Config:            &api.AfiSafiConfig{Family: &api.Family{Afi: f.afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true},
				MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: want.GracefulRestart}},
			})
		}
	}
	return p
}

// report notes why there is no session.
func (s *session) report(state observed.SessionState, why reason.Reason, message string) {
	s.mu.Lock()
	same := s.seen.State == state && s.seen.Reason == why && s.seen.Message == message
	if !same {
		if s.seen.State != state {
			s.seen.Since = time.Now()
		}
		s.seen = observed.Session{
			Peer: s.seen.Peer, Dynamic: s.seen.Dynamic, Remote: s.seen.Remote, Local: s.seen.Local, Port: s.seen.Port,
			VRF: s.seen.VRF, Since: s.seen.Since, LastDown: s.seen.LastDown, Watch: s.seen.Watch, State: state, Reason: why, Message: message,
		}
	}
	s.mu.Unlock()
	if !same {
		s.room.onChange()
	}
}

// observed is what was reached.
func (s *session) observed() observed.Session {
	s.mu.Lock()
	o, g := s.seen, s.gate
	s.mu.Unlock()
	if g != nil && o.State == observed.Established {
		o.SentIPv4, o.SentIPv6 = g.prefixes()
		o.Received = int(g.heard.Load())
	}
	return o
}

// sleep waits, but not beyond ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
