//go:build lab

package bgp

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// wires joins every node with the router by a wire of its own: the interface name
// on the node, name-1 to name-3 on the router, with link-local addresses only.
func (s *stage) wires(name string) (toNode map[string]string) {
	s.Helper()
	toNode = map[string]string{}
	router, err := s.State.Layout.Host(s.tor.Name)
	s.Must(err)
	for i, node := range s.Nodes() {
		far := fmt.Sprintf("%s-%d", name, i+1)
		toNode[node] = far
		s.OnEnd("remove the wire to "+node, func(ctx context.Context) error {
			_, err := s.Exec(ctx, s.tor.Name, "ip", "link", "del", far)
			return err
		})
		_, err := s.Exec(s.Ctx, node, "ip", "link", "add", name, "type", "veth", "peer", "name", far, "netns", router.Namespace)
		s.Must(err)
		for host, iface := range map[string]string{node: name, s.tor.Name: far} {
			_, err := s.Exec(s.Ctx, host, "ip", "link", "set", iface, "up")
			s.Must(err)
		}
	}
	return toNode
}

// Over a wire without addresses the session uses the link-local ones, carries both
// families, and clients reach the pods; with BFD as without.
func TestUnnumbered(t *testing.T) {
	for _, bfd := range []bool{false, true} {
		t.Run(map[bool]string{false: "WithoutBFD", true: "WithBFD"}[bfd], func(t *testing.T) {
			t.Parallel()
			s := open(t)
			raw := s.block.V4(0).As4()
			iface := fmt.Sprintf("up%d", raw[3])
			ports := s.wires(iface)
			var gone []string
			for _, n := range s.Nodes() {
				port := ports[n]
				// What is configured before zebra has seen the interface come up may
				// have no effect: FRR then never hears the node's advertisements.
				s.Eventually(harness.Patience, func() error {
					text, err := s.tor.Vtysh(s.Ctx, "show interface "+port)
					if err == nil && !(strings.Contains(text, "line protocol is up") && strings.Contains(text, "inet6 fe80::")) {
						err = fmt.Errorf("FRR does not know the wire to %s yet:\n%s", n, text)
					}
					return err
				})
				_, err := s.tor.Vtysh(s.Ctx, "configure terminal", "interface "+port, "ipv6 nd ra-interval 1", "no ipv6 nd suppress-ra")
				s.Must(err)
				lines := []string{"neighbor " + port + " interface remote-as external"}
				if bfd {
					lines = append(lines, "neighbor "+port+" bfd")
				}
				for _, family := range []string{"ipv4", "ipv6"} {
					lines = append(lines, "address-family "+family+" unicast", "neighbor "+port+" activate", "exit-address-family")
				}
				s.Must(s.onTor(s.Ctx, lines...))
				gone = append(gone, "no neighbor "+port+" interface")
			}
			s.OnEnd("remove the neighbours", func(ctx context.Context) error { return s.onTor(ctx, gone...) })
			spec := "myASN: 64500, dynamicASN: external, interface: " + iface
			if bfd {
				spec += ", bfdProfile: " + s.BFDProfile("b", "receiveInterval: 500, transmitInterval: 500")
			}
			peer := s.Peer("unnumbered", spec)
			s.WaitSessions(peer, s.Nodes()...)
			s.advertiseTo("a", `communities: ["64500:4"]`, peer)
			s.Echo("web", 2, "node1", "node3")
			s.Service("web", harness.Dual, harness.Local, harness.From(s.pool))
			s.addrs = s.WaitAddresses("web", 2)
			for _, a := range s.addrs {
				s.Eventually(harness.Patience, func() error {
					hops, err := s.tor.Routes(s.Ctx, host(a))
					var devs []string
					for _, h := range hops {
						devs = append(devs, h.Dev)
					}
					if slices.Sort(devs); err == nil && !slices.Equal(devs, []string{ports["node1"], ports["node3"]}) {
						err = fmt.Errorf("%s routes %s over %v", s.tor.Name, a, hops)
					}
					return err
				})
				s.tor.PathsOf(host(a), func(paths []lab.BGPPath) error {
					for _, p := range paths {
						if err := exactly("as-path 64500 communities 64500:4")(p); err != nil {
							return err
						}
					}
					return nil
				})
				s.AnswersOf(a, 2)
			}
			st := s.WaitSession(peer, "node1", func(st harness.BGPSession) error {
				if up := st.BFD != nil && st.BFD.State == "Up"; st.State != "Established" || up != bfd {
					return fmt.Errorf("it is %s with BFD %+v", st.State, st.BFD)
				}
				return nil
			})
			if !strings.HasPrefix(st.PeerAddress, "fe80::") || !strings.HasSuffix(st.PeerAddress, "%"+iface) || !slices.Equal(st.Families, []string{"IPv4", "IPv6"}) {
				t.Errorf("the BGPSessionStatus says %+v", st)
			}
		})
	}
}
