package bgp_test

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// base is a session with every optional field unset.
func base() desired.Session {
	return desired.Session{
		Peer: &config.Peer{Name: "tor", MyASN: 64512, PeerASN: 64999, Address: netip.MustParseAddr("10.0.0.1"), Port: 179},
		IPv4: true, Key: "one", ID: netip.MustParseAddr("10.255.0.1"),
	}
}

// with is base with a difference.
func with(f func(*desired.Session)) desired.Session {
	s := base()
	peer := *s.Peer
	s.Peer = &peer
	f(&s)
	return s
}

func ptr[T any](v T) *T { return &v }

func TestWhatEachFieldDoesToASession(t *testing.T) {
	addr := netip.MustParseAddr
	for _, tc := range []struct {
		name string
		next desired.Session
		want bgp.Effect
	}{
		{"nothing", base(), bgp.Nothing},
		{"MyASN", with(func(s *desired.Session) { s.MyASN = 1 }), bgp.Reset},
		{"PeerASN", with(func(s *desired.Session) { s.PeerASN = 1 }), bgp.Reset},
		{"Dynamic", with(func(s *desired.Session) { s.Dynamic = config.ExternalASN }), bgp.Reset},
		{"LocalASN", with(func(s *desired.Session) { s.LocalASN = 1 }), bgp.Reset},
		{"Address", with(func(s *desired.Session) { s.Address = addr("10.0.0.9") }), bgp.Reset},
		{"Interface", with(func(s *desired.Session) { s.Interface = "eth0" }), bgp.Reset},
		{"Source", with(func(s *desired.Session) { s.Source = addr("10.0.0.9") }), bgp.Reset},
		{"Port", with(func(s *desired.Session) { s.Port = 1179 }), bgp.Reset},
		{"HoldTime", with(func(s *desired.Session) { s.HoldTime = ptr(time.Second) }), bgp.Reset},
		{"KeepaliveTime", with(func(s *desired.Session) { s.KeepaliveTime = ptr(time.Second) }), bgp.Reset},
		{"ConnectTime", with(func(s *desired.Session) { s.ConnectTime = ptr(time.Second) }), bgp.Live},
		{"ID", with(func(s *desired.Session) { s.ID = addr("10.255.0.9") }), bgp.Reset},
		{"RouterID", with(func(s *desired.Session) { s.RouterID = addr("10.255.0.9") }), bgp.Nothing}, // ID follows it
		{"NodeSelectors", with(func(s *desired.Session) { s.NodeSelectors = nil }), bgp.Nothing},
		{"Password", with(func(s *desired.Session) { s.Password = "x" }), bgp.Nothing}, // Key follows it
		{"PasswordSecret", with(func(s *desired.Session) { s.PasswordSecret = "x" }), bgp.Nothing},
		{"Key", with(func(s *desired.Session) { s.Key = "two" }), bgp.Live},
		{"Key gone", with(func(s *desired.Session) { s.Key = "" }), bgp.Reset},
		{"BFD", with(func(s *desired.Session) { s.BFD = &config.BFDProfile{} }), bgp.Live},
		{"GracefulRestart", with(func(s *desired.Session) { s.GracefulRestart = true }), bgp.Reset},
		{"EBGPMultiHop", with(func(s *desired.Session) { s.EBGPMultiHop = true }), bgp.Live},
		{"VRF", with(func(s *desired.Session) { s.VRF = "red" }), bgp.Reset},
		{"DualStack", with(func(s *desired.Session) { s.DualStack = true }), bgp.Nothing}, // IPv4 and IPv6 follow it
		{"IPv4", with(func(s *desired.Session) { s.IPv4 = false }), bgp.Reset},
		{"IPv6", with(func(s *desired.Session) { s.IPv6 = true }), bgp.Reset},
		{"TTLSecurity", with(func(s *desired.Session) { s.TTLSecurity = true }), bgp.Live},
		{"Passive", with(func(s *desired.Session) { s.Passive = true }), bgp.Reset},
		{"Prefix", with(func(s *desired.Session) { s.Prefix = netip.MustParsePrefix("10.0.0.0/8") }), bgp.Reset},
	} {
		t.Run(tc.name, func(t *testing.T) {
			was := base()
			if got, because := bgp.Compare(&was, &tc.next); got != tc.want || (len(because) > 0) != (got != bgp.Nothing) {
				t.Errorf("the effect is %d because of %v, want %d", got, because, tc.want)
			}
			rows[tc.name] = true
		})
	}
	for _, of := range []reflect.Type{reflect.TypeFor[config.Peer](), reflect.TypeFor[desired.Session]()} {
		for i := range of.NumField() {
			if name := of.Field(i).Name; name != "Name" && name != "Peer" && !rows[name] {
				t.Errorf("nobody said what a difference of %s does to a session", name)
			}
		}
	}
}

var rows = map[string]bool{}

func sessionsGen() *rapid.Generator[map[string]desired.Session] {
	return rapid.Custom(func(t *rapid.T) map[string]desired.Session {
		all := make(map[string]desired.Session)
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), rapid.ID).Draw(t, "names") {
			all[name] = with(func(s *desired.Session) {
				s.Name = name
				s.Key = rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "key")
				s.Port = rapid.SampledFrom([]uint16{179, 1179}).Draw(t, "port")
			})
		}
		return all
	})
}

// Following a difference leads from one set of sessions to the other, touching
// none that is the same in both.
func TestPropertyDiffOfSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, next := sessionsGen().Draw(t, "old"), sessionsGen().Draw(t, "next")
		c := bgp.Diff(old, slices.Collect(maps.Values(next)))
		got := maps.Clone(old)
		for _, name := range c.Drop {
			delete(got, name)
		}
		touched := make(map[string]int)
		for _, list := range [][]desired.Session{c.Add, c.Reset, c.Live} {
			for _, s := range list {
				got[s.Name] = s
				touched[s.Name]++
			}
		}
		same := cmp.Comparer(func(a, b desired.Session) bool {
			effect, _ := bgp.Compare(&a, &b)
			return effect == bgp.Nothing
		})
		if diff := cmp.Diff(next, got, same); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for name, n := range touched {
			was, now := old[name], next[name]
			if n > 1 || was.Peer != nil && cmp.Equal(was, now, same) {
				t.Errorf("session %s is touched %d times", name, n)
			}
		}
		if c := bgp.Diff(next, slices.Collect(maps.Values(next))); len(c.Add)+len(c.Reset)+len(c.Live)+len(c.Drop) > 0 {
			t.Errorf("the same differs from itself: %+v", c)
		}
	})
}

func routesGen() *rapid.Generator[desired.Routes] {
	return rapid.Custom(func(t *rapid.T) desired.Routes {
		r := make(desired.Routes)
		for _, b := range rapid.SliceOfDistinct(rapid.ByteRange(0, 9), rapid.ID).Draw(t, "prefixes") {
			r[netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, b}), 32)] =
				&desired.Attributes{LocalPref: rapid.Uint32Range(0, 2).Draw(t, "preference")}
		}
		return r
	})
}

// A difference applied gives the other side, however many steps lie between, and
// nothing differs from itself.
func TestPropertyDiffOfRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := routesGen().Draw(t, "a"), routesGen().Draw(t, "b"), routesGen().Draw(t, "c")
		direct, detour := maps.Clone(a), maps.Clone(a)
		bgp.Apply(direct, bgp.DiffRoutes(a, c))
		bgp.Apply(detour, bgp.DiffRoutes(a, b))
		bgp.Apply(detour, bgp.DiffRoutes(b, c))
		for _, got := range []desired.Routes{direct, detour} {
			if diff := cmp.Diff(c, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
		if d := bgp.DiffRoutes(a, a); len(d.Announce)+len(d.Withdraw) > 0 {
			t.Errorf("the same differs from itself: %+v", d)
		}
	})
}

func TestWhichPeersAreExternal(t *testing.T) {
	for _, tc := range []struct {
		name     string
		peer     config.Peer
		external bool
		accepts  []uint32
		refuses  []uint32
		send     int
		least    int
	}{
		{"another AS", config.Peer{MyASN: 1, PeerASN: 2}, true, []uint32{2}, []uint32{1, 3}, 1, 0},
		{"our own AS", config.Peer{MyASN: 1, PeerASN: 1}, false, []uint32{1}, []uint32{2}, 0, 0},
		{"our own AS by localASN", config.Peer{MyASN: 1, LocalASN: 2, PeerASN: 2}, false, []uint32{2}, []uint32{1}, 0, 0},
		{"any other", config.Peer{MyASN: 1, Dynamic: config.ExternalASN}, true, []uint32{2, 3}, []uint32{1}, 1, 0},
		{"internal", config.Peer{MyASN: 1, Dynamic: config.InternalASN}, false, []uint32{1}, []uint32{2}, 0, 0},
		{"multihop", config.Peer{MyASN: 1, PeerASN: 2, EBGPMultiHop: true}, true, []uint32{2}, nil, 0, 0},
		{"GTSM", config.Peer{MyASN: 1, PeerASN: 2, TTLSecurity: true}, true, []uint32{2}, nil, 255, 255},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := bgp.External(&tc.peer); got != tc.external {
				t.Errorf("external is %t", got)
			}
			for _, asn := range tc.accepts {
				if !bgp.AcceptsASN(&tc.peer, asn) {
					t.Errorf("AS %d is refused", asn)
				}
			}
			for _, asn := range tc.refuses {
				if bgp.AcceptsASN(&tc.peer, asn) {
					t.Errorf("AS %d is accepted", asn)
				}
			}
			if send, least := bgp.HopLimits(&tc.peer); send != tc.send || least != tc.least {
				t.Errorf("hop limits %d, %d; want %d, %d", send, least, tc.send, tc.least)
			}
		})
	}
}

func TestTimers(t *testing.T) {
	hold, keepalive, connect := bgp.Timers(&config.Peer{})
	if hold != 90*time.Second || keepalive != 30*time.Second || connect != 5*time.Second {
		t.Errorf("the defaults are %s, %s, %s", hold, keepalive, connect)
	}
	p := &config.Peer{HoldTime: ptr(30 * time.Second), KeepaliveTime: ptr(5 * time.Second)}
	if hold, keepalive := bgp.Negotiated(p, 90*time.Second); hold != 30*time.Second || keepalive != 5*time.Second {
		t.Errorf("with a slower peer %s, %s", hold, keepalive)
	}
	if hold, keepalive := bgp.Negotiated(p, 9*time.Second); hold != 9*time.Second || keepalive != 3*time.Second {
		t.Errorf("with a faster peer %s, %s", hold, keepalive)
	}
}

func TestHold(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1e9, 0).Add(time.Duration(s) * time.Second) }
	type step struct {
		second int
		failed bool
		held   bool
		again  int // 0 for never
	}
	for _, tc := range []struct {
		name  string
		steps []step
	}{
		{"never failed", []step{{0, false, false, 0}, {9, false, false, 0}}},
		{"the first failure is over as soon as it is over", []step{{0, true, true, 3}, {2, true, true, 3}, {2, false, false, 0}, {9, false, false, 0}}},
		{"each further one within two minutes costs twice the wait", []step{
			{0, true, true, 3}, {1, false, false, 0},
			{2, true, true, 6}, {3, false, true, 4}, {4, false, false, 0},
			{5, true, true, 10}, {6, false, true, 8}, {7, false, true, 8}, {8, false, false, 0},
			{9, true, true, 16}, {10, false, true, 14},
		}},
		{"a failure while waiting holds again", []step{
			{0, true, true, 3}, {1, false, false, 0}, {2, true, true, 6}, {3, false, true, 4}, {3, true, true, 8}, {5, false, true, 7},
		}},
		{"calm forgives", []step{
			{0, true, true, 3}, {1, false, false, 0}, {2, true, true, 6}, {3, false, true, 4}, {300, true, true, 303}, {301, false, false, 0},
		}},
		{"BFD that does not come back by itself is not awaited for long", []step{
			{0, true, true, 3}, {3, true, false, 0}, {4, true, false, 0}, {5, false, false, 0},
		}},
		{"but longer each time", []step{
			{0, true, true, 3}, {3, true, false, 0}, {4, false, false, 0},
			{10, true, true, 14}, {13, true, true, 14}, {14, true, false, 0}, {15, false, false, 0},
			{20, true, true, 25}, {25, true, false, 0},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h bgp.Hold
			for i, s := range tc.steps {
				held, again := h.Step(at(s.second), s.failed)
				want := time.Time{}
				if s.again != 0 {
					want = at(s.again)
				}
				if held != s.held || !again.Equal(want) {
					t.Errorf("step %d: held %t until %v, want %t until %v", i, held, again, s.held, want)
				}
			}
		})
	}
}

// The wait never passes a minute.
func TestHoldIsBounded(t *testing.T) {
	var h bgp.Hold
	now := time.Unix(1e9, 0)
	for range 50 {
		h.Step(now, true)
		now = now.Add(time.Second)
		held, again := h.Step(now, false)
		if held && again.Sub(now) > time.Minute {
			t.Fatalf("the wait is %s", again.Sub(now))
		}
		if held {
			now = again
		}
	}
}

func TestWhichBFDSessionWatches(t *testing.T) {
	addr := netip.MustParseAddr
	s := with(func(s *desired.Session) {})
	red := with(func(s *desired.Session) { s.VRF = "red" })
	for _, tc := range []struct {
		name          string
		session       desired.Session
		remote, local netip.Addr
		key           observed.BFDPeer
		want          bool
	}{
		{"the peer's", s, addr("10.0.0.1"), netip.Addr{}, observed.BFDPeer{Remote: addr("10.0.0.1")}, true},
		{"another's", s, addr("10.0.0.1"), netip.Addr{}, observed.BFDPeer{Remote: addr("10.0.0.2")}, false},
		{"of a peer not known yet", s, netip.Addr{}, netip.Addr{}, observed.BFDPeer{}, false},
		{"from our address", s, addr("10.0.0.1"), addr("10.0.0.2"), observed.BFDPeer{Remote: addr("10.0.0.1"), Local: addr("10.0.0.2")}, true},
		{"from another address", s, addr("10.0.0.1"), addr("10.0.0.2"), observed.BFDPeer{Remote: addr("10.0.0.1"), Local: addr("10.0.0.3")}, false},
		{"in another VRF", s, addr("10.0.0.1"), netip.Addr{}, observed.BFDPeer{Remote: addr("10.0.0.1"), VRF: "red"}, false},
		{"in its VRF", red, addr("10.0.0.1"), netip.Addr{}, observed.BFDPeer{Remote: addr("10.0.0.1"), VRF: "red"}, true},
		{"on its link", s, addr("fe80::1%eth0"), netip.Addr{}, observed.BFDPeer{Remote: addr("fe80::1"), Interface: "eth0"}, true},
		{"on another link", s, addr("fe80::1%eth0"), netip.Addr{}, observed.BFDPeer{Remote: addr("fe80::1"), Interface: "eth1"}, false},
	} {
		if got := bgp.WatchedBy(&tc.session, tc.remote, tc.local, tc.key); got != tc.want {
			t.Errorf("the session %s: %t", tc.name, got)
		}
	}
}

func TestNextHops(t *testing.T) {
	addr := netip.MustParseAddr
	list := func(s ...string) (l []netip.Addr) {
		for _, a := range s {
			l = append(l, addr(a))
		}
		return l
	}
	for _, tc := range []struct {
		name     string
		local    bgp.Local
		overIPv6 bool
		want     bgp.NextHops
	}{
		{"IPv4 session, the link has both", bgp.Local{Session: addr("10.0.0.2"), Interface: list("10.0.0.2", "fe80::2", "fd00::2")}, false,
			bgp.NextHops{IPv4: addr("10.0.0.2"), IPv6: addr("fd00::2")}},
		{"IPv4 session, another link has IPv6", bgp.Local{Session: addr("10.0.0.2"), Interface: list("10.0.0.2"), Node: list("127.0.0.1", "::1", "fe80::3", "fd00::3")}, false,
			bgp.NextHops{IPv4: addr("10.0.0.2"), IPv6: addr("fd00::3")}},
		{"IPv4 session, no IPv6: never a mapped address", bgp.Local{Session: addr("10.0.0.2"), Interface: list("10.0.0.2", "fe80::2")}, true,
			bgp.NextHops{IPv4: addr("10.0.0.2")}},
		{"IPv6 session, the peer knows RFC 8950", bgp.Local{Session: addr("fd00::2"), Interface: list("10.0.0.2", "fd00::2")}, true,
			bgp.NextHops{IPv4: addr("fd00::2"), IPv6: addr("fd00::2")}},
		{"IPv6 session, the peer does not", bgp.Local{Session: addr("fd00::2"), Interface: list("10.0.0.2", "fd00::2")}, false,
			bgp.NextHops{IPv4: addr("10.0.0.2"), IPv6: addr("fd00::2")}},
		{"unnumbered", bgp.Local{Session: addr("fe80::2%eth0"), Interface: list("fe80::2")}, true,
			bgp.NextHops{IPv4: addr("fe80::2"), IPv6: addr("fe80::2")}},
	} {
		if got := bgp.ChooseNextHops(tc.local, tc.overIPv6); got != tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
		}
	}
}
