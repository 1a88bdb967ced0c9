//go:build lab

package assignment

import (
	"context"
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// Two Services have the two addresses, two wait. However often the controller
// starts again, nobody loses anything, and nobody who waits gets anything.
func TestAssignmentsSurviveRestarts(t *testing.T) {
	s := newStory(t)
	s.ours("two", s.range4(1, 2))
	s.served("b", s.v4(1))
	s.served("a", s.v4(2))
	s.refused("c", "PoolExhausted")
	s.refused("d", "PoolExhausted")
	h := s.history()
	for range 5 {
		s.RestartController()
	}
	// The last one works: it serves who is new.
	s.ours("three", s.one4(3))
	s.WaitAddress("c")
	h.was(s, "b", s.v4(1))
	h.was(s, "a", s.v4(2))
	h.was(s, "c", "", s.v4(3))
	h.was(s, "d", "")
	s.DeleteService("b")
	s.has("d", s.v4(1))
}

// A Service that cannot be served does not keep a controller that starts from
// serving others. In MetalLB it does, for up to a quarter of an hour.
func TestServiceThatFailsAtTheStartHoldsUpNobody(t *testing.T) {
	s := newStory(t)
	s.ours("two", s.range4(1, 2))
	s.refused("unknown", "PoolUnknown", harness.From("nowhere"))
	s.refused("outside", "AddressNotInPool", harness.At(addr(s.v4(99))))
	s.refused("garbage", "InvalidRequest", harness.Annotate("metallb.io/loadBalancerIPs", "one, please"))
	s.served("web", s.v4(1))
	s.RestartController()
	s.served("new", s.v4(2))
	s.has("web", s.v4(1))
	// Those that failed are still cared for.
	s.DeleteService("new")
	s.UpdateService("unknown", harness.Annotate("metallb.io/address-pool", ""))
	s.has("unknown", s.v4(2))
}

// A pool that is missing while the controller starts takes nothing away if it
// comes back within moments, even if it was the only one.
func TestPoolMissingForAMomentAtTheStart(t *testing.T) {
	s := newStory(t)
	s.alone()
	pool := func() string { return s.Pool("p", "addresses: ["+s.range4(1, 9)+", "+s.range6(1, 9)+"]") }
	name := pool()
	s.Service("web", harness.Dual)
	s.has("web", s.v4(1), s.v6(1))
	s.Service("six", harness.V6, harness.At(addr(s.v6(7))))
	s.has("six", s.v6(7))
	h := s.history()

	s.scaleController(0)
	s.Delete(harness.Pools, name)
	s.scaleController(2)
	s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "PoolMissing")
	s.refused("new", "NoPools")
	pool()
	s.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "Assigned")
	s.WaitCondition("six", harness.Assigned, metav1.ConditionTrue, "Assigned")
	s.has("new", s.v4(2)) // not what the others have
	h.was(s, "web", s.v4(1)+","+s.v6(1))
	h.was(s, "six", s.v6(7))
}

// scaleController sets how many replicas there are. It waits until they are gone,
// but not until they are there.
func (s *story) scaleController(replicas int) {
	s.Helper()
	scale := func(ctx context.Context, n int) error {
		patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, n)
		_, err := s.Kube.AppsV1().Deployments(herald.Namespace).Patch(ctx, "controller", types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	if replicas == 0 {
		s.WholeAtEnd()
		s.OnEnd("scale the controller back", func(ctx context.Context) error { return scale(ctx, 2) })
	}
	s.Must(scale(s.Ctx, replicas))
	if replicas > 0 {
		return
	}
	s.Eventually(2*harness.Patience, func() error {
		pods, err := s.Kube.CoreV1().Pods(herald.Namespace).List(s.Ctx, metav1.ListOptions{LabelSelector: "component=controller"})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d controllers are left", len(pods.Items))
		}
		return err
	})
}
