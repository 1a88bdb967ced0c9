//go:build lab

package harness

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"

	"github.com/heraldlb/herald/e2etest/herald"
)

// ExcludeLabel takes a node out of load balancing.
const ExcludeLabel = corev1.LabelNodeExcludeBalancers

// LabelNode sets a label of a node until the test ends.
func (h *Test) LabelNode(node, key, value string) {
	h.Helper()
	h.Must(h.patchLabel(h.Ctx, node, key, &value))
	h.OnEnd("remove the label "+key+" of "+node, func(ctx context.Context) error { return h.patchLabel(ctx, node, key, nil) })
}

// UnlabelNode removes a label of a node.
func (h *Test) UnlabelNode(node, key string) {
	h.Helper()
	h.Must(h.patchLabel(h.Ctx, node, key, nil))
}

func (h *Test) patchLabel(ctx context.Context, node, key string, value *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": map[string]any{key: value}}})
	if err != nil {
		return err
	}
	_, err = h.Kube.CoreV1().Nodes().Patch(ctx, node, mergePatch, patch, metav1.PatchOptions{})
	return err
}

// SetNetworkUnavailable sets a node's condition, as a network plug-in does, until
// the test ends.
func (h *Test) SetNetworkUnavailable(node string, unavailable bool) {
	h.Helper()
	set := func(ctx context.Context, status corev1.ConditionStatus) error {
		now := metav1.Now()
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{{
			Type: corev1.NodeNetworkUnavailable, Status: status, Reason: "Test", LastHeartbeatTime: now, LastTransitionTime: now,
		}}}})
		if err != nil {
			return err
		}
		_, err = h.Kube.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
		return err
	}
	if unavailable {
		h.Must(set(h.Ctx, corev1.ConditionTrue))
		h.OnEnd("make the network of "+node+" available", func(ctx context.Context) error { return set(ctx, corev1.ConditionFalse) })
		return
	}
	h.Must(set(h.Ctx, corev1.ConditionFalse))
}

// Taint gives a node a taint with the effect NoSchedule, which keeps new pods
// away, until the test ends or until Untaint.
func (h *Test) Taint(node, key string) {
	h.Helper()
	h.Must(h.setTaint(h.Ctx, node, key, true))
	h.OnEnd("remove the taint "+key+" of "+node, func(ctx context.Context) error { return h.setTaint(ctx, node, key, false) })
}

// Untaint removes it.
func (h *Test) Untaint(node, key string) {
	h.Helper()
	h.Must(h.setTaint(h.Ctx, node, key, false))
}

func (h *Test) setTaint(ctx context.Context, node, key string, on bool) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		n, err := h.Kube.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Spec.Taints = slices.DeleteFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == key })
		if on {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
		}
		_, err = h.Kube.CoreV1().Nodes().Update(ctx, n, metav1.UpdateOptions{})
		return err
	})
}

// Speaker returns the name of the speaker's pod on a node, "" if there is none.
func (h *Test) Speaker(node string) (string, error) {
	pods, err := h.heraldPods(h.Ctx, "speaker")
	for _, p := range pods {
		if p.Spec.NodeName == node && p.DeletionTimestamp == nil {
			return p.Name, nil
		}
	}
	return "", err
}

func (h *Test) heraldPods(ctx context.Context, component string) ([]corev1.Pod, error) {
	list, err := h.Kube.CoreV1().Pods(herald.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "component=" + component})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// DeleteSpeaker deletes the speaker's pod on a node, as `kubectl delete pod` does,
// with a grace in seconds, or the pod's own if it is negative; it returns at once.
func (h *Test) DeleteSpeaker(node string, grace int64) {
	h.Helper()
	pod, err := h.Speaker(node)
	h.Must(err)
	o := metav1.DeleteOptions{}
	if grace >= 0 {
		o.GracePeriodSeconds = &grace
	}
	h.Must(h.Kube.CoreV1().Pods(herald.Namespace).Delete(h.Ctx, pod, o))
}

// RestartSpeaker deletes the speaker's pod on a node and waits for the next one.
func (h *Test) RestartSpeaker(node string) {
	h.Helper()
	old, err := h.Speaker(node)
	h.Must(err)
	h.DeleteSpeaker(node, -1)
	h.WaitSpeaker(node, old)
}

// WaitSpeaker waits until a node has a ready speaker that is not a certain pod.
func (h *Test) WaitSpeaker(node, old string) {
	h.Helper()
	h.Eventually(2*Patience, func() error {
		pods, err := h.heraldPods(h.Ctx, "speaker")
		for _, p := range pods {
			if p.Spec.NodeName == node && p.Name != old && p.DeletionTimestamp == nil && podReady(&p) {
				return nil
			}
		}
		return fmt.Errorf("%s has no ready speaker: %w", node, err)
	})
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// RestartController deletes the controller's pods and waits until the next ones
// are ready.
func (h *Test) RestartController() {
	h.Helper()
	old, err := h.heraldPods(h.Ctx, "controller")
	h.Must(err)
	now := int64(1)
	for _, p := range old {
		h.Must(ignoreNotFound(h.Kube.CoreV1().Pods(herald.Namespace).Delete(h.Ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})))
	}
	h.Eventually(2*Patience, func() error {
		pods, err := h.heraldPods(h.Ctx, "controller")
		if err != nil {
			return err
		}
		ready := 0
		for _, p := range pods {
			fresh := !slices.ContainsFunc(old, func(o corev1.Pod) bool { return o.Name == p.Name })
			if fresh && podReady(&p) {
				ready++
			}
		}
		if ready < len(old) {
			return fmt.Errorf("%d of %d new controllers are ready", ready, len(old))
		}
		return nil
	})
}

// Whole waits until every node is Ready and every pod of Herald is ready: tests
// that break something call it so that the next test finds the lab whole.
func (h *Test) Whole() {
	h.Helper()
	h.Must(h.waitWhole(h.Ctx))
}

// WholeAtEnd has the test wait for it when what it does from now on is taken
// back. A test that breaks several things calls it before the first.
func (h *Test) WholeAtEnd() {
	if !h.whole {
		h.whole = true
		h.OnEnd("wait until all of Herald is ready", h.waitWhole)
	}
}

func (h *Test) waitWhole(ctx context.Context) error {
	return poll(ctx, cleanupLimit, func() error {
		if err := h.nodesReady(ctx); err != nil {
			return err
		}
		for component, want := range map[string]int{"speaker": len(h.State.Layout.Nodes), "controller": 2} {
			pods, err := h.heraldPods(ctx, component)
			if err != nil {
				return err
			}
			ready := 0
			for _, p := range pods {
				if p.DeletionTimestamp == nil && podReady(&p) {
					ready++
				}
			}
			if ready != want || len(pods) != want {
				return fmt.Errorf("%d of %d pods of the %s are ready, want %d", ready, len(pods), component, want)
			}
		}
		return nil
	})
}

func (h *Test) nodesReady(ctx context.Context) error {
	list, err := h.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range list.Items {
		if !slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}) {
			return fmt.Errorf("%s is not Ready", n.Name)
		}
	}
	return nil
}
