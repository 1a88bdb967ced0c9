//go:build lab

package assignment

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// preferring prefers both families, in an order.
func preferring(families ...corev1.IPFamily) harness.ServiceOption {
	return func(svc *corev1.Service) {
		policy(corev1.IPFamilyPolicyPreferDualStack)(svc)
		svc.Spec.IPFamilies = families
	}
}

// A pool with both families is chosen before any with one.
func TestPreferDualStackChoosesTheDualPool(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("a", s.one4(1))
	s.ours("b", s.one6(2))
	s.ours("c", s.one4(3), s.one6(3))
	s.Service("web", harness.PreferDual)
	s.has("web", s.v4(3), s.v6(3))
	s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "Assigned")
	s.rests("web")
}

// Among pools with one family it is the Service's first one that counts, which
// is IPv4 unless it says otherwise.
func TestPreferDualStackAmongSinglePools(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("a", s.range6(1, 2))
	s.ours("b", s.range4(1, 2))
	for _, tt := range []struct {
		name   string
		option harness.ServiceOption
		want   string
	}{
		{"default", harness.PreferDual, s.v4(1)},
		{"v4", preferring(corev1.IPv4Protocol, corev1.IPv6Protocol), s.v4(2)},
		{"v6", preferring(corev1.IPv6Protocol, corev1.IPv4Protocol), s.v6(1)},
		{"left", preferring(corev1.IPv4Protocol, corev1.IPv6Protocol), s.v6(2)}, // IPv4 is used up
	} {
		s.Service(tt.name, tt.option)
		s.has(tt.name, tt.want)
		s.WaitCondition(tt.name, harness.Assigned, metav1.ConditionTrue, "OneFamilyOnly")
		s.toldOf(tt.name, "AdditionalAssignFailed", "prefers dual stack")
	}
	s.rests("v6")
}

// A pool that becomes dual gives the second address; the first stays.
func TestPoolBecomesDual(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second func(*story) string
		want          func(*story) []string
	}{
		{"IPv6Comes", func(s *story) string { return s.range4(1, 4) }, func(s *story) string { return s.range6(1, 4) }, func(s *story) []string { return []string{s.v4(1)} }},
		{"IPv4Comes", func(s *story) string { return s.range6(1, 4) }, func(s *story) string { return s.range4(1, 4) }, func(s *story) []string { return []string{s.v6(1)} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			s.ours("a", tt.first(s))
			h := s.history()
			s.Service("web", harness.PreferDual)
			s.has("web", tt.want(s)...)
			s.ours("a", tt.first(s), tt.second(s))
			s.has("web", s.v4(1), s.v6(1)) // IPv4 first, whichever came first
			s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "Assigned")
			h.was(s, "web", "", tt.want(s)[0], s.v4(1)+","+s.v6(1))
			s.rests("web")
		})
	}
}

// On a pool with one family a Service that comes to require both loses what it
// has, and gets it back when it prefers them only.
func TestPolicyChangesOnASinglePool(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("a", s.one4(1))
	s.Service("web", harness.PreferDual)
	s.has("web", s.v4(1))
	s.UpdateService("web", policy(corev1.IPFamilyPolicyRequireDualStack))
	s.waits("web", "FamilyNotInPool")
	s.UpdateService("web", policy(corev1.IPFamilyPolicyPreferDualStack))
	s.has("web", s.v4(1))
	s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "OneFamilyOnly")
	s.UpdateService("web", func(svc *corev1.Service) {
		policy(corev1.IPFamilyPolicySingleStack)(svc)
		svc.Spec.IPFamilies, svc.Spec.ClusterIPs = svc.Spec.IPFamilies[:1], svc.Spec.ClusterIPs[:1]
	})
	s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "Assigned")
	s.has("web", s.v4(1))
}

// A Service with one address does not jump to a dual pool that comes later.
func TestNewDualPoolMovesNobody(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("b", s.one4(1))
	s.Service("web", harness.PreferDual)
	s.has("web", s.v4(1))
	h := s.history()
	s.ours("a", s.range4(8, 9), s.range6(8, 9))
	s.Service("next", harness.PreferDual)
	s.has("next", s.v4(8), s.v6(8)) // so the pool is in use
	s.keeps("web", s.v4(1))
	h.was(s, "web", s.v4(1))
}

// When a dual pool loses a family, its Services move to another dual pool.
func TestDualPoolBecomesSingle(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("a", s.one4(1), s.one6(1))
	s.Service("web", harness.PreferDual)
	s.has("web", s.v4(1), s.v6(1))
	s.ours("b", s.one4(2), s.one6(2))
	s.ours("a", s.one4(1))
	s.has("web", s.v4(2), s.v6(2))
	s.toldOf("web", "ClearAssignment", s.v6(1))
}

// Addresses of a Service that requires both families are of one pool.
func TestRequireDualStackIsOfOnePool(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("a", s.one4(1))
	s.ours("b", s.one6(1))
	s.Service("web", harness.Dual)
	if c := s.waits("web", "FamilyNotInPool"); !strings.Contains(c.Message, "pair of an IPv4 and an IPv6") {
		t.Errorf("the condition does not say what is missing: %s", c.Message)
	}
	s.ours("c", s.one4(3), s.one6(3))
	s.has("web", s.v4(3), s.v6(3))
}

// Requested addresses stand in the order of the request, for good. MetalLB turns
// them round on the next pass.
func TestOrderOfTheRequestStays(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("a", s.range4(1, 9), s.range6(1, 9))
	s.Service("six", harness.Dual, harness.At(addr(s.v6(5)), addr(s.v4(5))))
	s.has("six", s.v6(5), s.v4(5))
	s.Service("four", harness.Dual, harness.At(addr(s.v4(6)), addr(s.v6(6))))
	s.has("four", s.v4(6), s.v6(6))
	// What happens around them, and to them, changes nothing.
	s.Service("neighbour", harness.Dual)
	s.has("neighbour", s.v4(1), s.v6(1))
	s.UpdateService("six", harness.Labelled("touched", "yes"))
	s.ours("a", s.range4(1, 9), s.range6(1, 9), s.one4(20))
	s.rests("six")
	s.has("six", s.v6(5), s.v4(5))
	s.has("four", s.v4(6), s.v6(6))
	// The user may turn them round.
	s.UpdateService("six", harness.At(addr(s.v4(5)), addr(s.v6(5))))
	s.has("six", s.v4(5), s.v6(5))
}
