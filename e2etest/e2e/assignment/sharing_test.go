//go:build lab

package assignment

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// Two Services share an address for as long as the conditions hold. The one whose
// change breaks them loses the address, the other keeps it; once both agree
// again, both have it again.
func TestConditionsOfSharingChange(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.ours("one", s.one4(1))
	h := s.history()
	s.Service("first", harness.Sharing("k"), harness.To("web"))
	s.has("first", s.v4(1))
	s.Service("second", harness.Sharing("k"), harness.To("web"), harness.Ports("81/TCP:8080"))
	s.has("second", s.v4(1))
	s.poolSays(pool, 1, 0, 0, 0) // a shared address counts once

	s.Step("the second switches to Local: it loses the address, the first keeps it")
	s.UpdateService("second", harness.Local)
	s.WaitCondition("second", harness.Assigned, metav1.ConditionFalse, "PoolExhausted")
	s.toldOf("second", "ClearAssignment", "externalTrafficPolicy or selector differs")
	s.has("second")
	s.keeps("first", s.v4(1))

	s.Step("the first switches too: both have it")
	s.UpdateService("first", harness.Local)
	s.has("second", s.v4(1))
	h.was(s, "first", "", s.v4(1)) // once given, never lost

	s.Step("the first changes its selector: it loses the address")
	s.UpdateService("first", harness.To("other"))
	s.has("first")
	s.keeps("second", s.v4(1))

	s.Step("the second is aligned: both have it again")
	s.UpdateService("second", harness.To("other"))
	s.has("first", s.v4(1))
	h.was(s, "second", "", s.v4(1), "", s.v4(1))
	h.was(s, "first", "", s.v4(1), "", s.v4(1))
}

// Keys and ports are conditions too.
func TestKeysAndPortsOfSharingChange(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.ours("one", s.one4(1))
	s.Service("first", harness.Sharing("k"), harness.Ports("53/TCP:8080"))
	s.Service("second", harness.Sharing("k"), harness.Ports("53/UDP:8080"))
	s.has("first", s.v4(1))
	s.has("second", s.v4(1)) // TCP and UDP are two

	s.UpdateService("second", func(svc *corev1.Service) { harness.Sharing("l")(svc) })
	s.waits("second", "PoolExhausted")
	s.UpdateService("second", func(svc *corev1.Service) { harness.Sharing("k")(svc) })
	s.has("second", s.v4(1))

	s.UpdateService("second", harness.Ports("53/TCP:8080"))
	s.waits("second", "PoolExhausted")
	s.UpdateService("first", harness.Ports("54/TCP:8080"))
	s.has("second", s.v4(1))
	s.has("first", s.v4(1))
}
