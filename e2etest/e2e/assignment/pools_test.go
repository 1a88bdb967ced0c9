//go:build lab

package assignment

import (
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// Without any pool nobody has an address.
func TestAllPoolsAreDeleted(t *testing.T) {
	s := newStory(t)
	s.alone()
	a := s.Pool("a", "addresses: ["+s.one4(1)+"]")
	b := s.Pool("b", "addresses: ["+s.one4(2)+"]")
	s.Service("first")
	s.has("first", s.v4(1))
	s.Service("second")
	s.has("second", s.v4(2))
	s.Delete(harness.Pools, a)
	s.Delete(harness.Pools, b)
	for _, name := range []string{"first", "second"} {
		s.waits(name, "NoPools")
		s.toldOf(name, "ClearAssignment", "no pool holds")
		svc, err := s.GetService(name)
		s.Must(err)
		if pool, ok := svc.Annotations["metallb.io/ip-allocated-from-pool"]; ok {
			t.Errorf("service %s still says that its address is from pool %q", name, pool)
		}
	}
	// And with one they have.
	s.Pool("c", "addresses: ["+s.range4(8, 9)+"]")
	s.WaitAddress("first")
	s.WaitAddress("second")
}

// A Service whose pool goes, or shrinks, moves to another.
func TestPoolIsTakenAway(t *testing.T) {
	for _, tt := range []struct {
		name string
		take func(s *story)
	}{
		{"Deleted", func(s *story) { s.Delete(harness.Pools, s.Namespace+"-a") }},
		{"Shrunk", func(s *story) { s.ours("a", s.one4(8)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			a := s.ours("a", s.one4(1), s.one4(8))
			s.ours("b", s.one4(2))
			s.Service("mover", harness.At(addr(s.v4(1))))
			s.has("mover", s.v4(1))
			s.UpdateService("mover", harness.Annotate("metallb.io/loadBalancerIPs", ""))
			s.Service("stays", harness.From(a))
			s.has("stays", s.v4(8))
			h := s.history()
			tt.take(s)
			s.has("mover", s.v4(2))
			s.toldOf("mover", "ClearAssignment", "no pool holds "+s.v4(1))
			s.toldOf("mover", "IPAllocated", s.v4(2))
			if tt.name == "Shrunk" {
				h.was(s, "stays", s.v4(8))
			} else {
				s.waits("stays", "PoolUnknown")
			}
		})
	}
}

// An address that no longer is to be used, or no longer for this Service, is
// given back.
func TestPoolIsRestricted(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	spec := "addresses: [" + s.range4(0, 1) + "], serviceAllocation: {namespaces: [" + s.Namespace + "]}"
	pool := s.Pool("a", spec)
	s.Service("web")
	s.has("web", s.v4(0))
	s.Pool("a", spec+", avoidBuggyIPs: true")
	s.has("web", s.v4(1))
	// That it is not given out unasked concerns nobody who has it.
	s.Pool("a", spec+", autoAssign: false")
	s.keeps("web", s.v4(1))
	s.Pool("a", "addresses: ["+s.range4(0, 1)+"], serviceAllocation: {namespaces: [elsewhere]}")
	s.waits("web", "NoPoolForService")
	s.poolSays(pool, 0, 2, 0, 0)
}
