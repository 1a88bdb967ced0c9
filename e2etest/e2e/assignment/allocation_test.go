//go:build lab

package assignment

import (
	"fmt"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// Of the pools for a namespace the one with the lowest number is used first, and
// those without a number last.
func TestPrioritiesInANamespace(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	for i, priority := range []string{"", "priority: 20, ", "priority: 5, ", "priority: 10, "} {
		s.Pool(fmt.Sprint(i), fmt.Sprintf("addresses: [%s], serviceAllocation: {%snamespaces: [%s]}", s.one4(i), priority, s.Namespace))
	}
	for _, want := range []int{2, 3, 1, 0} {
		name := fmt.Sprintf("web-%d", want)
		s.Service(name)
		s.has(name, s.v4(want))
	}
	s.Service("late")
	s.waits("late", "PoolExhausted")
	s.namespace("other", nil).refused("web", "NoPoolForService")
}

// refused creates a Service that gets no address.
func (s *story) refused(name, reason string, options ...harness.ServiceOption) {
	s.Helper()
	s.Service(name, options...)
	s.waits(name, reason)
}

// A pool with nothing but a priority is for everybody, before those without.
func TestPriorityOnly(t *testing.T) {
	s := newStory(t)
	s.alone()
	s.Pool("a", "addresses: ["+s.one4(1)+"]")
	s.Pool("b", "addresses: ["+s.one4(2)+"], serviceAllocation: {priority: 20}")
	s.Pool("c", "addresses: ["+s.one4(3)+"], serviceAllocation: {priority: 10}")
	for _, want := range []int{3, 2, 1} {
		name := fmt.Sprintf("web-%d", want)
		s.Service(name)
		s.has(name, s.v4(want))
	}
	// A better pool later moves nobody.
	s.Pool("d", "addresses: ["+s.one4(4)+"], serviceAllocation: {priority: 1}")
	s.keeps("web-1", s.v4(1))
	s.namespace("other", nil).served("web", s.v4(4))
}

// served creates a Service that gets an address.
func (s *story) served(name, want string, options ...harness.ServiceOption) {
	s.Helper()
	s.Service(name, options...)
	s.has(name, want)
}

// A pool takes namespaces by name or by label.
func TestNamespaceAndNamespaceLabels(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	label := s.Namespace + "-team"
	pool := s.Pool("a", fmt.Sprintf("addresses: [%s], serviceAllocation: {namespaces: [%s], namespaceSelectors: [{matchLabels: {%s: red}}]}",
		s.range4(1, 9), s.Namespace, label))
	s.served("web", s.v4(1))
	s.namespace("red", map[string]string{label: "red"}).served("web", s.v4(2))
	blue := s.namespace("blue", map[string]string{label: "blue"})
	blue.refused("web", "NoPoolForService")
	blue.refused("asks", "PoolNotAllowed", harness.From(pool))
	blue.refused("names", "PoolNotAllowed", harness.At(addr(s.v4(7))))
	s.poolSays(pool, 2, 7, 0, 0)
}

// A pool takes Services by label, in every namespace.
func TestServiceLabel(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	label := s.Namespace + "-tier"
	pool := s.Pool("a", fmt.Sprintf("addresses: [%s], serviceAllocation: {serviceSelectors: [{matchLabels: {%s: gold}}, {matchExpressions: [{key: %s, operator: In, values: [silver]}]}]}",
		s.range4(1, 9), label, label))
	s.served("gold", s.v4(1), harness.Labelled(label, "gold"))
	s.refused("lead", "NoPoolForService", harness.Labelled(label, "lead"))
	s.refused("plain", "NoPoolForService")
	s.refused("asks", "PoolNotAllowed", harness.From(pool))
	s.namespace("other", nil).served("silver", s.v4(2), harness.Labelled(label, "silver"))
	// The label counts as it is now.
	s.UpdateService("lead", harness.Labelled(label, "gold"))
	s.has("lead", s.v4(3))
	s.UpdateService("gold", harness.Labelled(label, "lead"))
	s.waits("gold", "NoPoolForService")
	s.toldOf("gold", "ClearAssignment", "does not admit")
}

// With both, a Service must match both.
func TestNamespaceAndServiceLabel(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	label := s.Namespace + "-tier"
	s.Pool("a", fmt.Sprintf("addresses: [%s], serviceAllocation: {namespaces: [%s], serviceSelectors: [{matchLabels: {%s: gold}}]}",
		s.range4(1, 9), s.Namespace, label))
	s.served("both", s.v4(1), harness.Labelled(label, "gold"))
	s.refused("namespace-only", "NoPoolForService")
	s.namespace("other", nil).refused("label-only", "NoPoolForService", harness.Labelled(label, "gold"))
}

// The labels of a namespace count as they are now.
func TestNamespaceLabelsChange(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	label := s.Namespace + "-team"
	s.Pool("a", fmt.Sprintf("addresses: [%s], serviceAllocation: {namespaceSelectors: [{matchLabels: {%s: red}}]}", s.range4(1, 9), label))
	s.refused("web", "NoPoolForService")
	s.label(label, "red")
	s.has("web", s.v4(1))
	s.label(label, "blue")
	s.waits("web", "NoPoolForService")
	s.toldOf("web", "ClearAssignment", "does not admit")
	s.label(label, "red")
	s.has("web", s.v4(1))
	s.label(label, "")
	s.waits("web", "NoPoolForService")
}

// Selectors of namespaces that select none admit nobody, also nobody who asks by
// name. In MetalLB they admit everybody who does.
func TestNamespaceSelectorWithoutAMatchAdmitsNobody(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.Pool("a", fmt.Sprintf("addresses: [%s], serviceAllocation: {namespaceSelectors: [{matchLabels: {%s-team: nobody}}]}", s.range4(1, 9), s.Namespace))
	s.refused("any", "NoPoolForService")
	s.refused("asks", "PoolNotAllowed", harness.From(pool))
	s.refused("names", "PoolNotAllowed", harness.At(addr(s.v4(3))))
	c := s.waits("names", "PoolNotAllowed")
	if !strings.Contains(c.Message, pool) || !strings.Contains(c.Message, s.Namespace+"/names") {
		t.Errorf("the condition names neither the pool nor the Service: %s", c.Message)
	}
	s.poolSays(pool, 0, 9, 0, 0)
}
