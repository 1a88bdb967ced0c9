//go:build lab

package bird

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

// stage is where the stories play: a pool that one BGPAdvertisement sends to all
// routers.
type stage struct {
	*harness.Test
	tor1, tor2, spine *harness.Router
	pool              string
	addrs             []netip.Addr
}

func open(t *testing.T, advertisement string) *stage {
	t.Helper()
	s := &stage{Test: harness.New(t)}
	s.tor1, s.tor2, s.spine = s.Router("tor1"), s.Router("tor2"), s.Router("spine")
	s.pool = s.Pool("p", "addresses: ["+s.RoutedBlock().Range()+"], autoAssign: false")
	s.advertise(advertisement)
	return s
}

func (s *stage) advertise(more string) {
	s.Helper()
	if more != "" {
		more = ", " + more
	}
	s.AdvertiseBGP("a", "ipAddressPools: ["+s.pool+"], peers: ["+shared+"]"+more)
}

// routed waits until the racks' routers have the addresses over exactly these
// nodes, and the spine over exactly the racks of those.
func (s *stage) routed(nodes ...string) {
	s.Helper()
	for _, a := range s.addrs {
		var first, second, racks []string
		for _, n := range nodes {
			if n == "node3" {
				second, racks = append(second, n), append(racks, "tor2")
			} else {
				first, racks = append(first, n), append(racks, "tor1")
			}
		}
		// A rack without such a node sends what it has to the other one.
		if len(first) == 0 && len(second) > 0 {
			first = []string{"spine"}
		}
		if len(second) == 0 && len(first) > 0 {
			second = []string{"spine"}
		}
		s.tor1.RoutesAddr(a, first...)
		s.tor2.RoutesAddr(a, second...)
		s.spine.RoutesAddr(a, slices.Compact(slices.Sorted(slices.Values(racks)))...)
	}
}

// answeredFrom opens enough connections that pods of all these nodes answer, and of
// no other.
func (s *stage) answeredFrom(nodes ...string) {
	s.Helper()
	for _, a := range s.addrs {
		s.Serves(a)
		if diff := cmp.Diff(nodes, slices.Sorted(maps.Keys(s.Flows(a, 80)))); diff != "" {
			s.Errorf("%s: the nodes whose pods answered (-want +got):\n%s", a, diff)
		}
	}
}

// Clients behind the spine reach pods in both racks, with both policies and in both
// families.
func TestReachable(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy harness.ServiceOption
		routed []string
	}{
		{"Cluster", func(*corev1.Service) {}, []string{"node1", "node2", "node3"}},
		{"Local", harness.Local, []string{"node1", "node3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t, "")
			s.Echo("web", 2, "node1", "node3")
			s.Service("web", harness.Dual, tt.policy, harness.From(s.pool))
			s.addrs = s.WaitAddresses("web", 2)
			s.routed(tt.routed...)
			s.answeredFrom("node1", "node3")
			s.DeleteService("web")
			s.routed()
		})
	}
}

// What an advertisement says is what BIRD has; a change is a new route and no new
// session.
func TestAttributes(t *testing.T) {
	t.Parallel()
	s := open(t, `communities: ["64500:7", no-export, "large:64500:8:9", "rt:64500:5"], med: 44, asPathPrepend: 1`)
	s.Service("web", harness.Dual, harness.NoPods, harness.From(s.pool))
	s.Endpoint("web", "node1")
	s.addrs = s.WaitAddresses("web", 2)
	has := func(want ...string) {
		t.Helper()
		for _, a := range s.addrs {
			s.Eventually(harness.Patience, func() error {
				text, err := s.tor1.Birdc(s.Ctx, "show route all "+netip.PrefixFrom(a, a.BitLen()).String())
				for _, w := range want {
					if err == nil && strings.Count(text, w) != 2 {
						err = fmt.Errorf("%s has %q %d times for %s, want it of two nodes:\n%s", s.tor1.Name, w, strings.Count(text, w), a, text)
					}
				}
				return err
			})
		}
	}
	has("BGP.as_path: 64500 64500\n", "BGP.med: 44\n", "BGP.community: (64500,7) (65535,65281)\n",
		"BGP.large_community: (64500, 8, 9)\n", "BGP.ext_community: (rt, 64500, 5)\n", "BGP.origin: IGP\n")
	s.advertise(`communities: ["64500:1"]`)
	has("BGP.as_path: 64500\n", "BGP.community: (64500,1)\n")
}

// BFD is up with BIRD and with FRR, and the BGPSessionStatus tells of every session.
func TestSessions(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	for _, node := range h.Nodes() {
		for _, p := range h.PeersOf(node) {
			st := h.WaitSession(peerName(p), node, func(st harness.BGPSession) error {
				if st.State != "Established" || st.BFD == nil || st.BFD.State != "Up" || st.RemoteASN != int64(p.ASN) {
					return fmt.Errorf("it says %+v, BFD %+v; want it established with BFD", st, st.BFD)
				}
				return nil
			})
			n, err := h.State.Layout.Node(node)
			h.Must(err)
			r := h.Router(p.Name)
			r.Neighbor(n.Interfaces[0].Addr(p.Addr.Is6()), func(n lab.BGPNeighbor) error {
				if !n.Up() || n.RouterID != h.NodeAddr(node).String() {
					return fmt.Errorf("it is %s with the router ID %s", n.State, n.RouterID)
				}
				return nil
			})
			r.BFDWith(n.Interfaces[0].Addr(p.Addr.Is6()), nil)
			if want := n.Interfaces[0].Addr(p.Addr.Is6()).String(); st.LocalAddress != want {
				t.Errorf("the BGPSessionStatus of %s has the local address %s, want %s", node, st.LocalAddress, want)
			}
		}
	}
}

// served is a stage with a pod in each rack, with the Local policy.
func served(t *testing.T) *stage {
	t.Helper()
	s := open(t, "")
	s.Echo("web", 2, "node1", "node3")
	s.Service("web", harness.Dual, harness.Local, harness.From(s.pool))
	s.addrs = s.WaitAddresses("web", 2)
	s.routed("node1", "node3")
	s.answeredFrom("node1", "node3")
	for _, node := range []string{"node1", "node3"} {
		for _, p := range s.PeersOf(node) {
			s.WaitSession(peerName(p), node, func(st harness.BGPSession) error {
				if st.BFD == nil || st.BFD.State != "Up" {
					return fmt.Errorf("BFD is %+v", st.BFD)
				}
				return nil
			})
		}
	}
	return s
}

// A node loses its power: BFD has BIRD take its routes away.
func TestNodeLosesPower(t *testing.T) {
	s := served(t)
	start := time.Now()
	boot := s.PowerOff("node1")
	s.routed("node3")
	took := time.Since(start)
	t.Logf("the routes went within %s", took.Round(time.Millisecond))
	if took > 15*time.Second {
		t.Errorf("the routes went after %s, want about three seconds", took)
	}
	s.answeredFrom("node3")
	boot()
	s.routed("node1", "node3")
}

// A rack's router loses its power: the other rack serves; when the router has
// booted, both do.
func TestRackLosesItsRouter(t *testing.T) {
	s := served(t)
	boot := s.tor1.Unpower()
	for _, a := range s.addrs {
		s.spine.RoutesAddr(a, "tor2")
	}
	s.answeredFrom("node3")
	boot()
	s.routed("node1", "node3")
	s.answeredFrom("node1", "node3")
}

// Routers dial: one BGPPeer waits for the router at its address, another for
// whoever dials from a subnet.
func TestRoutersDial(t *testing.T) {
	s := open(t, "")
	for host, number := range map[string]int{"tor1": 1, "node1": 11, "node2": 12} {
		addr := fmt.Sprintf("10.9.0.%d/24", number)
		s.OnEnd("remove "+addr, func(ctx context.Context) error {
			_, err := s.Exec(ctx, host, "ip", "address", "del", addr, "dev", "eth0")
			return err
		})
		_, err := s.Exec(s.Ctx, host, "ip", "address", "add", addr, "dev", "eth0")
		s.Must(err)
	}
	s.tor1.Reconfigure(func(text string) string {
		for _, number := range []int{11, 12} {
			text += fmt.Sprintf("protocol bgp dial%d { local 10.9.0.1 as 64601; neighbor 10.9.0.%d as 64500; password %q;\n"+
				"  connect delay time 1; connect retry time 1; error wait time 1, 2; ipv4 { import all; export none; }; }\n", number, number, password)
		}
		return text
	})
	secret := ", passwordSecret: {name: routers}, nodeSelectors: [{matchLabels: {kubernetes.io/hostname: %s}}]"
	prefix := s.Peer("prefix", fmt.Sprintf("myASN: 64500, dynamicASN: external, peerPrefix: 10.9.0.0/29"+secret, "node1"))
	passive := s.Peer("passive", fmt.Sprintf("myASN: 64500, peerASN: 64601, peerAddress: 10.9.0.1, passiveMode: true"+secret, "node2"))
	s.WaitSession(passive, "node2", nil)
	s.Eventually(harness.Patience, func() error {
		list, err := s.SessionsOf(prefix)
		for _, st := range list {
			if st.State == "Established" && st.PeerAddress == "10.9.0.1" {
				return nil
			}
		}
		return fmt.Errorf("node1 has the sessions %+v, want one that 10.9.0.1 has dialled: %w", list, err)
	})
	s.AdvertiseBGP("a", "ipAddressPools: ["+s.pool+"], peers: ["+prefix+", "+passive+"]")
	s.Service("web", harness.V4, harness.NoPods, harness.From(s.pool))
	s.Endpoint("web", s.Nodes()...)
	a := s.WaitAddress("web")
	s.Eventually(harness.Patience, func() error {
		hops, err := s.tor1.Routes(s.Ctx, netip.PrefixFrom(a, 32))
		var via []string
		for _, h := range hops {
			via = append(via, h.Gateway.String())
		}
		if err == nil && !slices.Equal(via, []string{"10.9.0.11", "10.9.0.12"}) {
			err = fmt.Errorf("tor1 routes %s over %v", a, hops)
		}
		return err
	})
}

// The speakers are rolled as an upgrade does it. They say goodbye first, so the
// routers turn to the other rack, and back again.
func TestRollingRestart(t *testing.T) {
	s := served(t)
	s.WholeAtEnd()
	stop := s.Measure(s.addrs...)
	_, err := s.Kubectl(s.Ctx, "-n", herald.Namespace, "rollout", "restart", "daemonset/speaker")
	s.Must(err)
	s.Must(herald.WaitReady(s.Ctx, s.Cluster))
	s.Whole()
	s.routed("node1", "node3")
	s.answeredFrom("node1", "node3")
	for _, r := range stop() {
		if r.Open || r.Longest > 5*time.Second {
			t.Errorf("%s: the longest outage is %s (over: %t), want at most a moment", r.Target, r.Longest, !r.Open)
		}
	}
}
