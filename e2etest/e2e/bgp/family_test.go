//go:build lab

package bgp

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// Both families over one session, be it an IPv4 or an IPv6 one, with attributes on
// both. The next hops are addresses of the interface, which other tests change.
func TestBothFamiliesOverOneSession(t *testing.T) {
	for _, tt := range []struct {
		name string
		v6   bool
	}{{"IPv4", false}, {"IPv6", true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			p := s.plane(0, "64500", "capability extended-nexthop")
			peer := p.peer("both", tt.v6, ebgp+", dualStackAddressFamily: true")
			s.advertiseTo("a", `communities: ["64500:7", "large:64500:7:7"]`, peer)
			s.Echo("web", 1, "node2")
			s.Service("web", harness.Dual, harness.Local, harness.From(s.pool))
			s.addrs = s.WaitAddresses("web", 2)
			for _, a := range s.addrs {
				p.path("node2", host(a), exactly("as-path 64500 communities 64500:7 large 64500:7:7"))
			}
			s.routed(s.addrs, "node2")
			for _, a := range s.addrs {
				s.answeredFrom(a, "node2")
			}
			n := p.neighbor("node2", tt.v6, func(n lab.BGPNeighbor) error {
				if diff := cmp.Diff(map[string]int{"ipv4": 1, "ipv6": 1}, n.Received); diff != "" {
					return errors.New("prefixes (-want +got):\n" + diff)
				}
				return nil
			})
			if n.Downs > 0 {
				t.Errorf("the session was lost: %s", n.LastReset)
			}
			st := s.WaitSession(peer, "node2", nil)
			if diff := cmp.Diff([]string{"IPv4", "IPv6"}, st.Families); diff != "" {
				t.Errorf("the families in the BGPSessionStatus (-want +got):\n%s", diff)
			}
		})
	}
}

// Without the field each session carries its own family only.
func TestOneFamilyForEachSession(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "")
	s.routed(s.addrs, s.Nodes()...)
	for _, a := range s.addrs {
		paths, err := s.tor.Paths(s.Ctx, host(a))
		s.Must(err)
		for _, p := range paths {
			if p.From.Is6() != a.Is6() {
				t.Errorf("%s is announced over the session with %s", a, p.From)
			}
		}
	}
	for _, tt := range []struct {
		peer string
		want []string
	}{{shared4, []string{"IPv4"}}, {shared6, []string{"IPv6"}}} {
		if diff := cmp.Diff(tt.want, s.WaitSession(tt.peer, "node1", nil).Families); diff != "" {
			t.Errorf("the families of %s (-want +got):\n%s", tt.peer, diff)
		}
	}
}
