//go:build netns

package gobgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// Every way to reach a peer carries routes of both families into its kernel. All
// peers are one node's, and all routers one FRR, at the same time.
func TestNetnsSessionKinds(t *testing.T) {
	kinds := []struct {
		name string
		peer func(n int, s *desired.Session)
		frr  string // lines for the neighbour on the first link
	}{
		{name: "iBGP", peer: func(_ int, s *desired.Session) { s.MyASN = 64999 },
			frr: "neighbor 10.0.1.2 remote-as 64999"},
		{name: "AS numbers of four octets", peer: func(_ int, s *desired.Session) { s.MyASN = 4200000001 },
			frr: "neighbor 10.0.1.2 remote-as 4200000001"},
		{name: "local AS", peer: func(_ int, s *desired.Session) { s.LocalASN = 65010 },
			frr: "neighbor 10.0.1.2 remote-as 65010"},
		{name: "password", peer: func(_ int, s *desired.Session) { s.Key = "correct-horse" },
			frr: "neighbor 10.0.1.2 password correct-horse"},
		{name: "GTSM", peer: func(_ int, s *desired.Session) { s.TTLSecurity = true },
			frr: "neighbor 10.0.1.2 ttl-security hops 1"},
		{name: "dynamic external AS", peer: func(_ int, s *desired.Session) { s.PeerASN, s.Dynamic = 0, config.ExternalASN }},
		{name: "dynamic internal AS", peer: func(_ int, s *desired.Session) { s.MyASN, s.PeerASN, s.Dynamic = 64999, 0, config.InternalASN },
			frr: "neighbor 10.0.1.2 remote-as 64999"},
		{name: "source address", peer: func(n int, s *desired.Session) { s.Source = addr(n, "10.0.1.9") },
			frr: "neighbor 10.0.1.2 shutdown\n neighbor 10.0.1.9 remote-as 64512\n address-family ipv6 unicast\n  neighbor 10.0.1.9 activate\n exit-address-family\n"},
		{name: "timers", peer: func(_ int, s *desired.Session) {
			s.HoldTime, s.KeepaliveTime = ptr(9*time.Second), ptr(3*time.Second)
		}},
		{name: "no timers", peer: func(_ int, s *desired.Session) {
			s.HoldTime, s.KeepaliveTime = ptr(time.Duration(0)), ptr(time.Duration(0))
		}, frr: "neighbor 10.0.1.2 timers 0 0"},
		{name: "over IPv6", peer: func(n int, s *desired.Session) { s.Address = addr(n, "fd00:1::1") },
			frr: "neighbor fd00:1::2 remote-as 64512\n address-family ipv4 unicast\n  neighbor fd00:1::2 activate\n exit-address-family\n address-family ipv6 unicast\n  neighbor fd00:1::2 activate\n exit-address-family\n"},
		{name: "another port", peer: func(_ int, s *desired.Session) { s.Port = 1179 }},
		{name: "passive", peer: func(_ int, s *desired.Session) { s.Passive = true }},
		{name: "passive with GTSM", peer: func(_ int, s *desired.Session) { s.Passive, s.TTLSecurity = true, true },
			frr: "neighbor 10.0.1.2 ttl-security hops 1"},
		{name: "passive with password", peer: func(_ int, s *desired.Session) { s.Passive, s.Key = true, "correct-horse" },
			frr: "neighbor 10.0.1.2 password correct-horse"},
		{name: "passive over IPv6 with password and GTSM", peer: func(n int, s *desired.Session) {
			s.Address, s.Passive, s.Key, s.TTLSecurity = addr(n, "fd00:1::1"), true, "correct-horse", true
		}, frr: "neighbor fd00:1::2 remote-as 64512\n neighbor fd00:1::2 timers connect 1\n neighbor fd00:1::2 password correct-horse\n neighbor fd00:1::2 ttl-security hops 1\n address-family ipv4 unicast\n  neighbor fd00:1::2 activate\n exit-address-family\n address-family ipv6 unicast\n  neighbor fd00:1::2 activate\n exit-address-family\n"},
		{name: "graceful restart", peer: func(_ int, s *desired.Session) { s.GracefulRestart = true },
			frr: "neighbor 10.0.1.2 graceful-restart-helper"},
	}
	ns := links(t, len(kinds))
	redirect(t, ns, "1179")
	r, _ := start(t)
	var lines, prefixes []string
	var sessions []desired.Session
	for i, k := range kinds {
		n := i + 1
		netns.Self(t).IP(t, fmt.Sprintf("addr add 10.0.%[1]d.9/24 dev rtr%[1]d", n))
		own := []string{fmt.Sprintf("192.0.2.%d/32", n), fmt.Sprintf("2001:db8::%x/128", n)}
		s := peer(n, func(s *desired.Session) { k.peer(n, s) })
		tell(r, s.Name, routes(desired.Attributes{}, own...))
		sessions, lines, prefixes = append(sessions, s), append(lines, k.frr), append(prefixes, own...)
	}
	tor := frrAtOnce(t, ns, lines)
	r.SetSessions(sessions, nil)
	for _, s := range sessions {
		awaitUp(t, r, s.Name)
	}
	got := awaitRoutes(t, tor, prefixes...)
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := session1(t, r, sessions[i].Name)
			if s.State != observed.Established || !s.IPv4 || !s.IPv6 {
				t.Errorf("the session is %+v, want it established with both families", s)
			}
			for _, p := range prefixes[2*i : 2*i+2] {
				hops := got[netip.MustParsePrefix(p)].NextHops
				if want := fmt.Sprintf("eth%d", i+1); len(hops) != 1 || hops[0].Interface != want {
					t.Errorf("%s goes by %v, want %s", p, hops, want)
				}
			}
			switch k.name {
			case "timers":
				if s.HoldTime != 9*time.Second || s.KeepaliveTime != 3*time.Second {
					t.Errorf("hold time %s, keepalive %s, want 9s and 3s", s.HoldTime, s.KeepaliveTime)
				}
			case "graceful restart":
				if !s.GracefulRestart {
					t.Error("graceful restart is not agreed")
				}
			case "local AS":
				if got := tor.Ask(t, "show bgp ipv4 unicast "+prefixes[2*i]); !strings.Contains(got, "65010") || strings.Contains(got, "64512") {
					t.Errorf("the path is not 65010 alone:\n%s", got)
				}
			}
		})
	}
}

// redirect has a router take BGP on another port as well.
func redirect(t *testing.T, ns *netns.NS, port string) {
	t.Helper()
	ns.Run(t, "nft", "add table ip bgp; add chain ip bgp in { type nat hook prerouting priority 0; }; "+
		"add rule ip bgp in tcp dport "+port+" redirect to :179")
}

// An unnumbered peer finds its router, and its router finds it.
func TestNetnsUnnumberedFRR(t *testing.T) {
	ns := link(t, 1)
	ns.IP(t, "addr flush dev eth0 scope global")
	netns.Self(t).IP(t, "addr flush dev rtr1 scope global")
	r, _ := start(t)
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "2001:db8::1/128"))
	tor := frrUnnumbered(t, ns)
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) {
		s.Address, s.Interface, s.PeerASN, s.Dynamic = netip.Addr{}, "rtr1", 0, config.ExternalASN
	})}, nil)
	s := awaitUp(t, r, "tor1")
	awaitRoutes(t, tor, "192.0.2.1/32", "2001:db8::1/128")
	if s.Remote.Zone() != "rtr1" || !s.Remote.IsLinkLocalUnicast() {
		t.Errorf("the peer is %s, want a link-local address on rtr1", s.Remote)
	}
}

// BIRD sends no router advertisements, and is found by its answer to a ping.
func TestNetnsUnnumberedBIRD(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "2001:db8::1/128"))
	local := linkLocal(t, netns.Self(t), "rtr1")
	tor := router.BIRD(t, ns, fmt.Sprintf(`
router id 10.0.1.1;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol kernel { ipv4 { export all; }; }
protocol kernel { ipv6 { export all; }; }
protocol bgp { local as 64999; neighbor %s%%eth0 as 64512; connect retry time 1;
  ipv4 { import all; export none; extended next hop on; };
  ipv6 { import all; export none; };
}
`, local))
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.Address, s.Interface = netip.Addr{}, "rtr1" })}, nil)
	awaitUp(t, r, "tor1")
	netns.Wait(t, 20*time.Second, "the routes in BIRD's kernel", func() bool {
		got := tor.Routes(t)
		return len(got[netip.MustParsePrefix("192.0.2.1/32")].NextHops) == 1 &&
			len(got[netip.MustParsePrefix("2001:db8::1/128")].NextHops) == 1
	})
}

// linkLocal is an interface's own link-local address.
func linkLocal(t *testing.T, ns *netns.NS, name string) netip.Addr {
	t.Helper()
	var addr netip.Addr
	netns.Wait(t, 10*time.Second, "a link-local address", func() bool {
		out := ns.IP(t, "-6 -o addr show dev "+name+" scope link -tentative")
		fields := strings.Fields(out)
		for i, f := range fields {
			if f == "inet6" {
				addr = netip.MustParsePrefix(fields[i+1]).Addr()
			}
		}
		return addr.IsValid()
	})
	return addr
}

// A session that cannot be says why, in the peer's own words where it has any.
func TestNetnsReasons(t *testing.T) {
	cases := []struct {
		name    string
		peer    func(*desired.Session)
		frr     string
		want    reason.Reason
		message string
	}{
		{name: "nothing listens", peer: func(s *desired.Session) { s.Port = 1790 },
			want: reason.PeerRefuses, message: "10.0.1.1:1790 refuses"},
		{name: "another AS", peer: func(s *desired.Session) { s.PeerASN = 64000 },
			want: reason.PeerASNDiffers, message: "Expected AS 64000, the peer says AS 64999."},
		{name: "not our own AS", peer: func(s *desired.Session) { s.PeerASN, s.Dynamic = 0, config.InternalASN },
			want: reason.PeerASNDiffers, message: "Expected our own AS 64512"},
		{name: "the peer expects another AS", peer: func(s *desired.Session) { s.MyASN = 64000 },
			want: reason.PeerNotification, message: "OPEN Message Error/Bad Peer AS"},
		{name: "another password", peer: func(s *desired.Session) { s.Key = "wrong" }, frr: "neighbor 10.0.1.2 password right",
			want: reason.PeerSilent, message: "password"},
		{name: "shut down by the peer's operator", peer: func(*desired.Session) {}, frr: "neighbor 10.0.1.2 shutdown",
			want: reason.PeerHungUp},
		{name: "no way", peer: func(s *desired.Session) { s.Address = netip.MustParseAddr("10.77.0.1") },
			want: reason.PeerUnreachable, message: "10.77.0.1"},
		{name: "no such source", peer: func(s *desired.Session) { s.Source = netip.MustParseAddr("10.77.0.2") },
			want: reason.SourceAddressMissing, message: "10.77.0.2"},
		{name: "no such interface", peer: func(s *desired.Session) { s.Address, s.Interface = netip.Addr{}, "eth7" },
			want: reason.PeerInterfaceMissing, message: "eth7"},
		{name: "no such VRF", peer: func(s *desired.Session) { s.VRF = "red" },
			want: reason.PeerInterfaceMissing, message: "red"},
		{name: "our own router ID", peer: func(s *desired.Session) { s.MyASN, s.ID = 64999, netip.MustParseAddr("10.255.0.1") },
			frr: "neighbor 10.0.1.2 remote-as 64999", want: reason.PeerMessageInvalid, message: "10.255.0.1"},
	}
	ns := links(t, len(cases))
	r, _ := start(t)
	var lines []string
	var sessions []desired.Session
	for i, tc := range cases {
		sessions, lines = append(sessions, peer(i+1, tc.peer)), append(lines, tc.frr)
	}
	frrAtOnce(t, ns, lines)
	r.SetSessions(sessions, nil)
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := await(t, r, sessions[i].Name, "to say "+string(tc.want), func(s observed.Session) bool { return s.Reason == tc.want })
			if message := at(i+1, tc.message); !strings.Contains(s.Message, message) {
				t.Errorf("the message is %q, want %q in it", s.Message, message)
			}
		})
	}
}

// How the peer's operator ended the session is told in the operator's words.
func TestNetnsPeersShutdownText(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	tor := frr(t, ns, 1, "")
	r.SetSessions([]desired.Session{peer(1)}, nil)
	awaitUp(t, r, "tor1")
	tor.Configure(t, "router bgp 64999\n neighbor 10.0.1.2 shutdown message rack 7 is moved\n")
	s := await(t, r, "tor1", "to end", func(s observed.Session) bool { return s.State != observed.Established })
	want := `Cease/Administrative Shutdown: "rack 7 is moved"`
	if s.LastDown.Reason != reason.PeerNotification || !strings.Contains(s.LastDown.Message, want) {
		t.Errorf("the last end is %+v, want %q in it", s.LastDown, want)
	}
}
