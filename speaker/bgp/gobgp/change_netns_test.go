//go:build netns

package gobgp

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// steady is a session that must not begin anew.
func steady(t *testing.T, r *Room, peer string) func() {
	t.Helper()
	before := awaitUp(t, r, peer)
	return func() {
		t.Helper()
		if now := session1(t, r, peer); now.State != observed.Established || now.Since != before.Since {
			t.Errorf("the session of %s was touched: before %+v, now %+v", peer, before, now)
		}
	}
}

// A thousand routes come and go without a session being touched, and one peer is
// changed, rotated, removed and added without another noticing.
func TestNetnsChurnTouchesNoSession(t *testing.T) {
	r, _ := start(t)
	tor1, tor2, tor3 := frr(t, link(t, 1), 1, ""), frr(t, link(t, 2), 2, "neighbor 10.0.2.2 password first"), frr(t, link(t, 3), 3, "")
	second := func(key string) desired.Session {
		return peer(2, func(s *desired.Session) { s.Key = key })
	}
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32"))
	r.SetSessions([]desired.Session{peer(1), second("first"), peer(3)}, nil)
	untouched := steady(t, r, "tor1")
	awaitUp(t, r, "tor2")
	awaitUp(t, r, "tor3")

	many := make(desired.Routes)
	var gone []netip.Prefix
	for i := range 1000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(100 + i/256), byte(i)}), 32)
		many[p] = &desired.Attributes{MED: ptr(uint32(i))}
		gone = append(gone, p)
	}
	tell(r, "tor1", many)
	await(t, r, "tor1", "to have told 1001 prefixes", func(s observed.Session) bool { return s.SentIPv4 == 1001 })
	netns.Wait(t, 20*time.Second, "1001 routes in the kernel", func() bool { return len(tor1.Routes(t)) == 1001 })
	r.SetSessions([]desired.Session{peer(1), second("second")}, nil) // the third goes, the second's key changes
	tor2.Configure(t, "router bgp 64999\n neighbor 10.0.2.2 password second\n")
	r.Apply(desired.BGPChange{"tor1": {Withdraw: gone}})
	awaitRoutes(t, tor1, "192.0.2.1/32")
	r.SetSessions([]desired.Session{peer(1), second("second"), peer(3)}, nil)
	awaitUp(t, r, "tor3")
	awaitUp(t, r, "tor2")
	untouched()
	_ = tor3
}

// Our side of a new password does not end the session. FRR's side does, with a
// farewell under the old key that must still be understood.
func TestNetnsPasswordRotates(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	rotating := func(key string) []desired.Session {
		return []desired.Session{peer(1, func(s *desired.Session) { s.Key = key })}
	}
	tor := frr(t, ns, 1, "neighbor 10.0.1.2 password first")
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32"))
	r.SetSessions(rotating("first"), nil)
	awaitRoutes(t, tor, "192.0.2.1/32")
	before := awaitUp(t, r, "tor1")
	r.SetSessions(rotating("second"), nil)
	if s := session1(t, r, "tor1"); s.Since != before.Since {
		t.Errorf("our own change ended the session: %+v", s)
	}
	// FRR ends the session when its key changes; it must be back with the new one.
	tor.Configure(t, "router bgp 64999\n neighbor 10.0.1.2 password second\n")
	await(t, r, "tor1", "to be back", func(s observed.Session) bool {
		return s.State == observed.Established && s.Since.After(before.Since)
	})
	awaitRoutes(t, tor, "192.0.2.1/32")
}

// A router that goes on under the new key without a word keeps the session.
func TestNetnsPasswordRotatesLive(t *testing.T) {
	ns := link(t, 1)
	remote := netip.MustParsePrefix("10.0.1.2/32")
	var listener *net.TCPListener
	ns.Do(t, func() error {
		lc := net.ListenConfig{}
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(t.Context(), "tcp4", "10.0.1.1:179")
		if err == nil {
			listener = l.(*net.TCPListener)
		}
		return err
	})
	key := func(of syscall.Conn, key string) {
		t.Helper()
		raw, err := of.SyscallConn()
		if err == nil {
			err = control(raw, func(fd int) error { return setKey(fd, remote, key) })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	key(listener, "first")
	t.Cleanup(func() { _ = listener.Close() })
	rotating := func(key string) []desired.Session {
		return []desired.Session{peer(1, func(s *desired.Session) {
			s.Key, s.HoldTime, s.KeepaliveTime = key, ptr(9*time.Second), ptr(3*time.Second)
		})}
	}
	r, _ := start(t)
	r.SetSessions(rotating("first"), nil)
	conn, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	open := bgp.Open{ASN: 64999, HoldTime: 9 * time.Second, ID: netip.MustParseAddr("10.0.1.1"), IPv4: true}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		_, _ = conn.Write(open.Append(nil))
		go func() { _, _ = io.Copy(io.Discard, conn) }()
		for {
			_, _ = conn.Write(bgp.AppendKeepalive(nil))
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	untouched := steady(t, r, "tor1")
	heard := func() uint64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.sessions["tor1"].counts.in[bgp.KeepaliveMessage].Load()
	}
	key(conn, "second")
	r.SetSessions(rotating("second"), nil)
	before := heard()
	netns.Wait(t, 20*time.Second, "the peer to be heard under the new key", func() bool { return heard() > before+5 })
	untouched()
}

// What changes the rules of the socket while a session opens begins it anew: the
// peer may follow the new ones already, and what it sends would be dropped.
func TestNetnsHopLimitChangesWhileTheSessionOpens(t *testing.T) {
	ns := link(t, 1)
	var listener net.Listener
	ns.Do(t, func() (err error) {
		lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return control(raw, func(fd int) error { return (hopLimit{send: 255}).set(fd, false) })
		}}
		listener, err = lc.Listen(t.Context(), "tcp4", "10.0.1.1:179")
		return err
	})
	t.Cleanup(func() { _ = listener.Close() })
	r, _ := start(t)
	r.SetSessions([]desired.Session{peer(1)}, nil)
	first, err := listener.Accept() // and no word of OPEN
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	await(t, r, "tor1", "to wait for OPEN", func(s observed.Session) bool { return s.State == observed.OpenSent })
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.ConnectTime = ptr(2 * time.Second) })}, nil)
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.ConnectTime, s.TTLSecurity = ptr(2*time.Second), true })}, nil)
	_ = first.SetReadDeadline(time.Now().Add(10 * time.Second))
	said, err := io.ReadAll(first)
	if err != nil {
		t.Fatalf("the connection goes on by the old rules: %v", err)
	}
	if open := bgp.HeaderLen; len(said) < open || said[len(said)-2] != bgp.Cease || said[len(said)-1] != bgp.OtherConfig {
		t.Errorf("the last words are % x, want Cease/Other Configuration Change", said)
	}
	_ = listener.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	second, err := listener.Accept()
	if err != nil {
		t.Fatalf("it does not begin anew: %v", err)
	}
	_ = second.Close()
}

// A field that only a new session can have resets that session and tells the peer
// why.
func TestNetnsChangedPeerBeginsAnew(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	tor := frr(t, ns, 1, "")
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32"))
	r.SetSessions([]desired.Session{peer(1)}, nil)
	awaitRoutes(t, tor, "192.0.2.1/32")
	before := awaitUp(t, r, "tor1")
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.HoldTime, s.KeepaliveTime = ptr(30*time.Second), ptr(10*time.Second) })}, nil)
	s := await(t, r, "tor1", "to be back", func(s observed.Session) bool {
		return s.State == observed.Established && s.Since.After(before.Since)
	})
	if s.HoldTime != 30*time.Second {
		t.Errorf("the hold time is %s, want 30s", s.HoldTime)
	}
	if got := tor.Log(); !strings.Contains(got, "Other Configuration Change") {
		t.Errorf("FRR does not say why the session ended:\n%s", got)
	}
	awaitRoutes(t, tor, "192.0.2.1/32")
}

// events are the changes of a prefix in the kernel of a router.
type events struct{ p *netns.Process }

func watchRoutes(t *testing.T, ns *netns.NS) events {
	return events{ns.Start(t, nil, "ip", "monitor", "route")}
}

func (e events) deleted(prefix string) bool {
	return strings.Contains(e.p.Output(), "Deleted "+prefix)
}

// A speaker that restarts with graceful restart loses no route in the router,
// whether it ended in order or was killed.
func TestNetnsGracefulRestartLosesNothing(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		t.Run(fmt.Sprintf("orderly=%t", orderly), func(t *testing.T) {
			ns := link(t, 1)
			tor := frr(t, ns, 1, "bgp graceful-restart")
			want := []desired.Session{peer(1, func(s *desired.Session) { s.GracefulRestart = true })}
			live := func() (*Room, func()) {
				r, stop := start(t)
				tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "2001:db8::1/128"))
				r.SetSessions(want, nil)
				return r, stop
			}
			r, stop := live()
			if s := awaitUp(t, r, "tor1"); !s.GracefulRestart {
				t.Fatal("graceful restart is not agreed")
			}
			awaitRoutes(t, tor, "192.0.2.1/32", "2001:db8::1/128")
			changes := watchRoutes(t, ns)
			if orderly {
				r.Shutdown(context.Background(), true)
			}
			stop()
			r, _ = live()
			awaitUp(t, r, "tor1")
			// A route that is new comes after all that FRR had to sort out.
			tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.2/32"))
			awaitRoutes(t, tor, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128")
			for _, p := range []string{"192.0.2.1", "2001:db8::1"} {
				if changes.deleted(p) {
					t.Errorf("the router dropped %s meanwhile:\n%s", p, changes.p.Output())
				}
			}
		})
	}
}

// A node that leaves asks for other ways first: the community and the preference
// arrive before the session ends with a word.
func TestNetnsShutdownIsGraceful(t *testing.T) {
	ns := link(t, 1)
	tor := frr(t, ns, 1, "neighbor 10.0.1.2 remote-as 64999")
	r, _ := start(t, func(c *Config) { c.Drain = 30 * time.Second })
	tell(r, "tor1", routes(desired.Attributes{LocalPref: 200}, "192.0.2.1/32"))
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.MyASN = 64999 })}, nil)
	awaitRoutes(t, tor, "192.0.2.1/32")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Shutdown(ctx, false) }()
	netns.Wait(t, 10*time.Second, "the community and local preference 0", func() bool {
		got := tor.Ask(t, "show bgp ipv4 unicast 192.0.2.1/32")
		return strings.Contains(got, "graceful-shutdown") && strings.Contains(got, "localpref 0")
	})
	cancel()
	<-done
	netns.Wait(t, 10*time.Second, "the farewell", func() bool {
		return strings.Contains(tor.Log(), "Administrative Shutdown")
	})
	awaitRoutes(t, tor)
}

// BFD ends the session at once, and it returns when BFD is back; what BFD never
// saw, or was switched off by the peer, is left alone.
func TestNetnsBFDHoldsTheSession(t *testing.T) {
	ns := link(t, 1)
	tor := frr(t, ns, 1, "")
	r, _ := start(t)
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32"))
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.BFD = &config.BFDProfile{Name: "fast"} })}, nil)
	untouched := steady(t, r, "tor1")
	awaitRoutes(t, tor, "192.0.2.1/32")
	key := observed.BFDPeer{Remote: netip.MustParseAddr("10.0.1.1")}
	for _, b := range []observed.BFDSession{{State: observed.BFDDown}, {State: observed.BFDUp, WasUp: true},
		{State: observed.BFDDown, WasUp: true, RemoteAdminDown: true}} {
		r.SetBFD(observed.BFD{key: b})
	}
	untouched()
	r.SetBFD(observed.BFD{key: {State: observed.BFDDown, WasUp: true}})
	awaitRoutes(t, tor)
	s := await(t, r, "tor1", "to be held down", func(s observed.Session) bool { return s.State == observed.HeldDown })
	if s.Reason != reason.BFDSaysDown || s.LastDown.Reason != reason.BFDSaysDown {
		t.Errorf("the session says %+v", s)
	}
	began := time.Now()
	r.SetBFD(observed.BFD{key: {State: observed.BFDUp, WasUp: true}})
	awaitUp(t, r, "tor1")
	t.Logf("back after %s", time.Since(began).Round(10*time.Millisecond))
	awaitRoutes(t, tor, "192.0.2.1/32")
}

// A router that learns its neighbours when they dial has no BFD before: the
// session does not wait for BFD for ever, and BFD begins anew when it is up.
func TestNetnsBFDAloneDoesNotComeBack(t *testing.T) {
	ns := link(t, 1)
	frr(t, ns, 1, "")
	r, _ := start(t)
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.BFD = &config.BFDProfile{Name: "fast"} })}, nil)
	if s := await(t, r, "tor1", "to say something", func(observed.Session) bool { return true }); s.Watch && s.State != observed.Established {
		t.Errorf("BFD may watch a session that was never up: %+v", s)
	}
	if s := awaitUp(t, r, "tor1"); !s.Watch {
		t.Errorf("BFD may not watch a session that is up: %+v", s)
	}
	key := observed.BFDPeer{Remote: netip.MustParseAddr("10.0.1.1")}
	r.SetBFD(observed.BFD{key: {State: observed.BFDUp, WasUp: true}})
	r.SetBFD(observed.BFD{key: {State: observed.BFDDown, WasUp: true}})
	if s := await(t, r, "tor1", "to be held down", func(s observed.Session) bool { return s.State == observed.HeldDown }); !s.Watch {
		t.Errorf("a session that BFD holds down is not watched any more: %+v", s)
	}
	began := time.Now()
	opening := await(t, r, "tor1", "to be tried without BFD", func(s observed.Session) bool { return !s.Watch })
	if opening.State == observed.Established || time.Since(began) < time.Second {
		t.Errorf("without BFD after %s: %+v, want a session that is opened", time.Since(began), opening)
	}
	r.SetBFD(observed.BFD{}) // as the BFD room does what the session says
	awaitUp(t, r, "tor1")
	t.Logf("back after %s", time.Since(began).Round(10*time.Millisecond))
}

// A router that hangs is noticed when the hold time is over, one that dies at
// once, and both come back.
func TestNetnsRouterHangsAndDies(t *testing.T) {
	ns := link(t, 1)
	tor := frr(t, ns, 1, "")
	r, _ := start(t)
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) {
		s.HoldTime, s.KeepaliveTime = ptr(3*time.Second), ptr(time.Second)
	})}, nil)
	awaitUp(t, r, "tor1")
	tor.Signal(t, "bgpd", syscall.SIGSTOP)
	s := await(t, r, "tor1", "to notice", func(s observed.Session) bool { return s.State != observed.Established })
	if s.LastDown.Reason != reason.HoldTimerExpired {
		t.Errorf("the end is %+v, want HoldTimerExpired", s.LastDown)
	}
	tor.Signal(t, "bgpd", syscall.SIGCONT)
	awaitUp(t, r, "tor1")
	tor.Kill(t, "bgpd")
	s = await(t, r, "tor1", "to notice", func(s observed.Session) bool { return s.State != observed.Established })
	if s.LastDown.Reason != reason.PeerHungUp {
		t.Errorf("the end is %+v, want PeerHungUp", s.LastDown)
	}
}
