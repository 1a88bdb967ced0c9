//go:build lab

package assignment

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// An address that comes free goes to the Service that waits for one.
func TestFreedAddressGoesToWhoWaits(t *testing.T) {
	for _, tt := range []struct {
		name string
		free func(s *story)
	}{
		{"Deleted", func(s *story) { s.DeleteService("holder") }},
		{"ChangedToClusterIP", func(s *story) {
			s.UpdateService("holder", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
			s.cleared("holder")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			pool := s.ours("one", s.one4(1))
			s.Service("holder")
			s.has("holder", s.v4(1))
			s.Service("waiter")
			if c := s.waits("waiter", "PoolExhausted"); !strings.Contains(c.Message, pool) {
				t.Errorf("the condition does not name the pool: %s", c.Message)
			}
			s.toldOf("waiter", "AllocationFailed", "PoolExhausted")
			tt.free(s)
			s.has("waiter", s.v4(1))
			s.toldOf("waiter", "IPAllocated", s.v4(1))
			s.poolSays(pool, 1, 0, 0, 0)
		})
	}
}

// Who asks for an address by name gets it before who takes any, and nobody gets
// it meanwhile.
func TestFreedAddressGoesToWhoAsksForIt(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("one", s.one4(1))
	s.Service("holder")
	s.has("holder", s.v4(1))
	s.Service("any")
	s.waits("any", "PoolExhausted")
	s.Service("named", harness.At(addr(s.v4(1))))
	s.waits("named", "AddressInUse")
	h := s.history()
	s.DeleteService("holder")
	s.has("named", s.v4(1))
	s.waits("any", "PoolExhausted")
	h.was(s, "any", "")
}
