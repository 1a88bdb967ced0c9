//go:build lab

package assignment

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// Whoever applies a pool that cannot be one is told at once.
func TestMalformedPoolsAreRefused(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("sound", s.range4(1, 9))
	s.served("web", s.v4(1))
	const cidr, pair = "expected a CIDR such as 192.168.10.0/24", "expected two IP addresses of one family joined by a dash"
	for _, tt := range []struct{ name, spec, words string }{
		{"a word", "addresses: [example.com]", cidr},
		{"nothing", `addresses: [""]`, cidr},
		{"a lone address", "addresses: [198.51.100.7]", "a single address is a /32 or a /128"},
		{"an octet", "addresses: [198.51.100.256/32]", cidr},
		{"a length", "addresses: [198.51.100.0/33]", cidr},
		{"a length of IPv6", `addresses: ["2001:db8::/129"]`, cidr},
		{"half a range", "addresses: [198.51.100.1-]", pair},
		{"three ends", "addresses: [198.51.100.1-198.51.100.2-198.51.100.3]", pair},
		{"a range of words", "addresses: [first-last]", pair},
		{"a range of prefixes", "addresses: [198.51.100.0/30-198.51.100.4/30]", pair},
		{"only one of many", "addresses: [198.51.100.0/30, 198.51.100.4/31, nonsense]", "spec.addresses[2]"},
		{"no address", "addresses: []", "spec.addresses"},
		{"no addresses at all", "autoAssign: true", "spec.addresses: Required value"},
		{"an unknown operator", "addresses: [198.51.100.0/30], serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: a, operator: Near, values: [b]}]}]}",
			"unknown operator: expected In, NotIn, Exists or DoesNotExist"},
		{"an operator without values", "addresses: [198.51.100.0/30], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: a, operator: In}]}]}",
			"expect at least one value"},
		{"a word for a number", "addresses: [198.51.100.0/30], serviceAllocation: {priority: first}", "spec.serviceAllocation.priority"},
	} {
		err := s.TryApply(fmt.Sprintf("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s-bad}\nspec: {%s}\n", s.Namespace, tt.spec))
		if err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want a refusal with %q", tt.name, err, tt.words)
		}
		if _, err := s.Object(harness.Pools, s.Namespace+"-bad"); !apierrors.IsNotFound(err) {
			t.Errorf("%s: the pool is there (%v)", tt.name, err)
		}
	}
	// An edit that makes a sound pool malformed changes nothing.
	if err := s.TryApply(fmt.Sprintf("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s-sound}\nspec: {addresses: [oops]}\n", s.Namespace)); err == nil {
		t.Error("a sound pool could be made malformed")
	}
	s.has("web", s.v4(1))
	s.served("next", s.v4(2))
}

// What only Herald can see is reported: in the ConfigurationState and by an event
// on the pool. The wrong entry is left out, everything else works.
func TestNonsenseInPoolsIsReported(t *testing.T) {
	for _, tt := range []struct {
		name  string
		entry func(s *story) string
		words string
	}{
		{"Reversed", func(s *story) string { return s.range4(19, 10) }, "its start is after its end"},
		{"FromIPv4ToIPv6", func(s *story) string { return s.v4(10) + "-" + s.v6(19) }, "it goes from IPv4 to IPv6"},
		{"FromIPv6ToIPv4", func(s *story) string { return s.v6(10) + "-" + s.v4(19) }, "it goes from IPv6 to IPv4"},
		{"TooManyGroups", func(*story) string { return "2001:db8:1:2:3:4:5:6:7:8/64" }, "is not an IP address"},
		{"OverlapInside", func(s *story) string { return s.one4(3) }, "overlaps with already defined CIDR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t)
			pool := s.ours("p", s.range4(1, 4))
			s.served("before", s.v4(1))
			h := s.history()
			s.ours("p", s.range4(1, 4), tt.entry(s))
			s.broken(pool, "spec.addresses[1]", tt.words)
			s.served("after", s.v4(2))
			s.poolSays(pool, 2, 2, 0, 0)
			s.refused("asks", "AddressNotInPool", harness.At(addr(s.v4(10))))
			// Another pool comes and works beside it.
			s.ours("q", s.one4(50))
			s.served("other", s.v4(50), harness.From(s.Namespace+"-q"))
			s.ours("p", s.range4(1, 4), s.range4(10, 19))
			s.mended(pool)
			s.has("asks", s.v4(10))
			h.was(s, "before", s.v4(1))
		})
	}
}

// Of two pools that overlap the older one keeps the addresses. The newer one
// says which of its entries lost, to whom, and serves with the others.
func TestOverlappingPools(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	old := s.ours("old", s.range4(1, 4))
	s.served("web", s.v4(1))
	h := s.history()
	// Objects of one second go by name, and "old" comes after "new".
	s.Eventually(harness.Patience, func() error { return s.olderThanASecond(old) })
	young := s.ours("new", s.range4(3, 9), s.range4(20, 24))
	s.broken(young, "spec.addresses[0]", fmt.Sprintf("CIDR %q in pool %q overlaps with already defined CIDR %q in pool %q, which is older",
		s.range4(3, 9), young, s.range4(1, 4), old))
	if lines, err := s.errorsOf(old); err != nil || len(lines) > 0 {
		t.Errorf("of the older pool it says %q (%v), want nothing", lines, err)
	}
	s.served("asks-new", s.v4(20), harness.From(young))
	s.served("asks-old", s.v4(2), harness.From(old))
	s.served("asks-for-3", s.v4(3), harness.At(addr(s.v4(3))))
	s.refused("asks-for-9", "AddressNotInPool", harness.At(addr(s.v4(9))))
	s.poolSays(young, 1, 4, 0, 0)
	// When the older one goes the newer is sound, and takes its Services over.
	s.Delete(harness.Pools, old)
	s.mended(young)
	s.has("asks-for-9", s.v4(9))
	s.has("asks-for-3", s.v4(3))
	s.waits("asks-old", "PoolUnknown")
	h.was(s, "asks-for-3", "", s.v4(3))
}

// olderThanASecond says whether an object was created in a second that is over.
func (s *story) olderThanASecond(pool string) error {
	probe := s.Namespace + "-clock"
	s.Apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + probe + "}\n")
	clock, err := s.Kube.CoreV1().ConfigMaps(s.Namespace).Get(s.Ctx, probe, metav1.GetOptions{})
	if err != nil {
		return err
	}
	s.Must(s.Kube.CoreV1().ConfigMaps(s.Namespace).Delete(s.Ctx, probe, metav1.DeleteOptions{}))
	o, err := s.Object(harness.Pools, pool)
	if err != nil {
		return err
	}
	if created := o.GetCreationTimestamp(); !created.Time.Before(clock.CreationTimestamp.Time) {
		return fmt.Errorf("pool %s was created in this very second, %s", pool, created)
	}
	return nil
}

// A pool that mends nothing: selectors that no label can match are reported, and
// admit nobody instead of everybody.
func TestSelectorThatNothingCanMatch(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.Pool("p", "addresses: ["+s.range4(1, 4)+"], serviceAllocation: {serviceSelectors: [{matchLabels: {'not a key!': x}}]}")
	s.broken(pool, "spec.serviceAllocation.serviceSelectors[0].matchLabels", "is not a label key")
	s.refused("web", "NoPoolForService")
	s.refused("asks", "PoolNotAllowed", harness.From(pool))
	s.ours("q", s.one4(50))
	s.has("web", s.v4(50))
}

// A pool in another namespace than Herald's is no pool.
func TestPoolInAnotherNamespace(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.elsewhere()
	s.Apply(fmt.Sprintf("apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: astray, namespace: %s}\nspec: {addresses: [%s], serviceAllocation: {namespaces: [%s]}}\n",
		s.Namespace, s.range4(1, 4), s.Namespace))
	s.refused("web", "NoPoolForService")
	s.refused("asks", "PoolUnknown", harness.From("astray"))
	s.Step("the same pool in %s serves", herald.Namespace)
	s.ours("p", s.range4(1, 4))
	s.has("web", s.v4(1))
}
