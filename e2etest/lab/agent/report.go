package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

// writeTimeout bounds one write to the API server.
const writeTimeout = 10 * time.Second

// report writes the pod's status whenever it changed, until ctx ends and the
// last change is written. It is the only writer of what it writes, so the answer
// to its last patch is what the next one is computed from. When the agent itself
// ends (life), nothing more is written: a node that stops says nothing either.
func (w *worker) report(life, ctx context.Context) {
	base := w.latest()
	for n := 0; ; {
		if life.Err() != nil {
			return
		}
		last := ctx.Err() != nil
		next, err := w.writeStatus(base)
		switch {
		case err == nil:
			base, n = next, 0
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err):
			return // gone, or another pod of the same name
		default:
			w.log.Warn("cannot write the pod's status", "err", err)
			if !last && sleep(ctx, backoff(n)) {
				n++
				continue
			}
		}
		if last {
			return
		}
		select {
		case <-ctx.Done():
		case <-w.dirty:
		}
	}
}

// writeStatus patches the difference between base and the present status.
func (w *worker) writeStatus(base *corev1.Pod) (*corev1.Pod, error) {
	s := w.state()
	s.pod = withStatus(s.pod, base)
	status := podStatus(s, time.Now())
	if equality.Semantic.DeepEqual(base.Status, status) {
		return base, nil
	}
	patch, err := statusPatch(base, status)
	if err != nil {
		return nil, err
	}
	// Not the reporter's context: the last write happens after it has ended.
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	return w.a.client.CoreV1().Pods(base.Namespace).Patch(ctx, base.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
}

// withStatus is the pod as last seen with the status as last written. The
// conditions that others own, such as readiness gates, are taken from the former.
func withStatus(pod, base *corev1.Pod) *corev1.Pod {
	out := pod.DeepCopy()
	seen := out.Status.Conditions
	out.Status = *base.Status.DeepCopy()
	for _, c := range seen {
		if !ownCondition(c.Type) {
			replaceCondition(&out.Status.Conditions, c)
		}
	}
	return out
}

func ownCondition(t corev1.PodConditionType) bool {
	switch t {
	case corev1.PodScheduled, corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady:
		return true
	}
	return false
}

func replaceCondition(conds *[]corev1.PodCondition, c corev1.PodCondition) {
	for i := range *conds {
		if (*conds)[i].Type == c.Type {
			(*conds)[i] = c
			return
		}
	}
	*conds = append(*conds, c)
}

// statusPatch is a strategic merge patch for this very pod and its status only.
func statusPatch(base *corev1.Pod, status corev1.PodStatus) ([]byte, error) {
	before, err := json.Marshal(corev1.Pod{Status: base.Status})
	if err != nil {
		return nil, fmt.Errorf("write the old status: %w", err)
	}
	after, err := json.Marshal(corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: base.UID}, Status: status})
	if err != nil {
		return nil, fmt.Errorf("write the new status: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Pod{})
	if err != nil {
		return nil, fmt.Errorf("compare the statuses: %w", err)
	}
	return patch, nil
}

// state collects what the status is made of.
func (w *worker) state() podState {
	s := podState{hostIPs: w.a.cfg.NodeIPs}
	for _, c := range w.inits {
		s.inits = append(s.inits, c.snapshot())
	}
	for _, c := range w.mains {
		s.mains = append(s.mains, c.snapshot())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.pod, s.podIPs, s.netReady, s.stopped, s.message = w.pod, w.podIPsLocked(), w.netReady, w.stopped, w.message
	return s
}

// sayGoodbye removes a deleted pod from the API server, now that nothing of it
// is left here. Until then its name and its node stay taken.
func (w *worker) sayGoodbye(ctx context.Context) {
	for n := 0; ; n++ {
		w.mu.Lock()
		pod, removed := w.pod, w.removed
		w.mu.Unlock()
		if removed || pod.DeletionTimestamp == nil || ctx.Err() != nil {
			return
		}
		now := int64(0)
		call, cancel := context.WithTimeout(ctx, writeTimeout)
		err := w.a.client.CoreV1().Pods(pod.Namespace).Delete(call, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: metav1.NewUIDPreconditions(string(pod.UID))})
		cancel()
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		w.log.Warn("cannot remove the pod", "err", err)
		if !sleep(ctx, backoff(n)) {
			return
		}
	}
}
