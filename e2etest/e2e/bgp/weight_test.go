//go:build lab

package bgp

import (
	"cmp"
	"fmt"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// The router's kernel sends a node traffic in proportion to its pods.
func TestWeightsFollowThePods(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.advertise("a", "weightByEndpoints: true")
	s.Service("web", harness.Dual, harness.NoPods, harness.Local, harness.From(s.pool))
	s.Endpoint("web", "node1", "node2", "node2", "node2")
	s.addrs = s.WaitAddresses("web", 2)
	s.weighs(map[string]int{"node1": 1, "node2": 3})
	s.Endpoint("web", "node1", "node2", "node2", "node1")
	s.weighs(map[string]int{"node1": 1, "node2": 1})
	s.Endpoint("web", "node1", "node3", "node3", "node1")
	s.weighs(map[string]int{"node1": 1, "node3": 1})
	// Without the field all are alike.
	s.Endpoint("web", "node1", "node3", "node3", "node3")
	s.weighs(map[string]int{"node1": 1, "node3": 3})
	s.advertise("a", "")
	s.weighs(map[string]int{"node1": 1, "node3": 1})
}

// weighs waits until the next hops in the router's kernel have weights in these
// proportions; 1 is the least.
func (s *stage) weighs(want map[string]int) {
	s.Helper()
	for _, a := range s.addrs {
		s.Eventually(harness.Patience, func() error {
			hops, err := s.tor.Routes(s.Ctx, host(a))
			if err != nil {
				return err
			}
			least := 0
			got := map[string]int{}
			for _, h := range hops {
				got[cmp.Or(inPlane(h.Gateway), h.Host)] = h.Weight
				if least == 0 || h.Weight < least {
					least = h.Weight
				}
			}
			for node, w := range want {
				// FRR rounds to percent.
				if share := float64(got[node]) / float64(max(least, 1)); share < float64(w)-0.1 || share > float64(w)+0.1 {
					return fmt.Errorf("the weights for %s are %v, want them as %v", a, got, want)
				}
			}
			if len(got) != len(want) {
				return fmt.Errorf("the weights for %s are %v, want them as %v", a, got, want)
			}
			return nil
		})
	}
}
