package agent

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podState is everything that a pod's status is made of.
type podState struct {
	pod      *corev1.Pod // with the status that the API server has
	hostIPs  []netip.Addr
	podIPs   []netip.Addr
	netReady bool
	inits    []corev1.ContainerStatus // in the order of the spec
	mains    []corev1.ContainerStatus
	stopped  bool   // every container has ended for good
	message  string // why the pod has not started its containers
}

// podStatus computes the status: phase, conditions, addresses and containers.
// Conditions that others own are left as they are.
func podStatus(s podState, now time.Time) corev1.PodStatus {
	out := *s.pod.Status.DeepCopy()
	out.Message, out.Reason = s.message, ""
	out.InitContainerStatuses, out.ContainerStatuses = s.inits, s.mains
	out.HostIP, out.HostIPs = "", nil
	for _, a := range s.hostIPs {
		out.HostIPs = append(out.HostIPs, corev1.HostIP{IP: a.String()})
	}
	if len(s.hostIPs) > 0 {
		out.HostIP = s.hostIPs[0].String()
	}
	if len(s.podIPs) > 0 {
		out.PodIP, out.PodIPs = s.podIPs[0].String(), nil
		for _, a := range s.podIPs {
			out.PodIPs = append(out.PodIPs, corev1.PodIP{IP: a.String()})
		}
	}
	if out.StartTime == nil {
		out.StartTime = &metav1.Time{Time: now}
	}
	out.Phase = podPhase(s)
	initialized := initsDone(s)
	ready, why := allReady(s.mains)
	gates := gatesOpen(s.pod)
	set := func(t corev1.PodConditionType, ok bool, reason, message string) {
		setCondition(&out.Conditions, t, ok, reason, message, now)
	}
	set(corev1.PodScheduled, true, "", "")
	set(corev1.PodReadyToStartContainers, s.netReady && !s.stopped, "", "")
	done := out.Phase == corev1.PodSucceeded
	if done {
		set(corev1.PodInitialized, true, "PodCompleted", "")
		set(corev1.ContainersReady, false, "PodCompleted", "")
		set(corev1.PodReady, false, "PodCompleted", "")
		return out
	}
	set(corev1.PodInitialized, initialized, unless(initialized, "ContainersNotInitialized"), "")
	set(corev1.ContainersReady, ready, unless(ready, "ContainersNotReady"), why)
	switch {
	case !ready:
		set(corev1.PodReady, false, "ContainersNotReady", why)
	case gates != "":
		set(corev1.PodReady, false, "ReadinessGatesNotReady", gates)
	default:
		set(corev1.PodReady, true, "", "")
	}
	return out
}

func unless(ok bool, reason string) string {
	if ok {
		return ""
	}
	return reason
}

// podPhase follows the rules of the API: a pod is Running from the start of its
// first main container, and ends when none will start again.
func podPhase(s podState) corev1.PodPhase {
	if s.pod.Status.Phase == corev1.PodSucceeded || s.pod.Status.Phase == corev1.PodFailed {
		return s.pod.Status.Phase
	}
	failed, running, succeeded := 0, 0, 0
	for _, c := range s.mains {
		switch {
		case c.State.Terminated != nil && c.State.Terminated.ExitCode == 0:
			succeeded++
		case c.State.Terminated != nil:
			failed++
		case c.State.Running != nil || c.LastTerminationState.Terminated != nil:
			running++
		}
	}
	initFailed := false
	for i, c := range s.inits {
		if t := c.State.Terminated; t != nil && t.ExitCode != 0 && !isSidecar(s.pod, i) {
			initFailed = true
		}
	}
	switch {
	case s.stopped && (failed > 0 || initFailed || succeeded < len(s.mains)):
		return corev1.PodFailed
	case s.stopped:
		return corev1.PodSucceeded
	case running+failed+succeeded > 0:
		return corev1.PodRunning
	}
	return corev1.PodPending
}

// isSidecar says whether init container i keeps running beside the main ones.
func isSidecar(pod *corev1.Pod, i int) bool {
	p := pod.Spec.InitContainers[i].RestartPolicy
	return p != nil && *p == corev1.ContainerRestartPolicyAlways
}

func initsDone(s podState) bool {
	for i, c := range s.inits {
		if isSidecar(s.pod, i) {
			if c.Started == nil || !*c.Started {
				return false
			}
		} else if t := c.State.Terminated; t == nil || t.ExitCode != 0 {
			return false
		}
	}
	return true
}

func allReady(containers []corev1.ContainerStatus) (ok bool, message string) {
	var unready []string
	for _, c := range containers {
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	if len(unready) == 0 {
		return true, ""
	}
	return false, fmt.Sprintf("containers with unready status: [%s]", strings.Join(unready, " "))
}

// gatesOpen names the readiness gates whose condition is not true.
func gatesOpen(pod *corev1.Pod) string {
	var closed []string
	for _, g := range pod.Spec.ReadinessGates {
		open := false
		for _, c := range pod.Status.Conditions {
			open = open || (c.Type == g.ConditionType && c.Status == corev1.ConditionTrue)
		}
		if !open {
			closed = append(closed, fmt.Sprintf("corresponding condition of pod readiness gate %q is not true", g.ConditionType))
		}
	}
	return strings.Join(closed, ", ")
}

// setCondition changes a condition in place; its transition time moves only
// when the status does.
func setCondition(conds *[]corev1.PodCondition, t corev1.PodConditionType, ok bool, reason, message string, now time.Time) {
	status := corev1.ConditionFalse
	if ok {
		status = corev1.ConditionTrue
	}
	for i := range *conds {
		c := &(*conds)[i]
		if c.Type != t {
			continue
		}
		if c.Status != status {
			c.LastTransitionTime = metav1.Time{Time: now}
		}
		c.Status, c.Reason, c.Message = status, reason, message
		return
	}
	*conds = append(*conds, corev1.PodCondition{Type: t, Status: status, Reason: reason, Message: message,
		LastTransitionTime: metav1.Time{Time: now}})
}

// backoff is the delay before the nth restart in a row: as a kubelet's, from
// 200 ms and to 5 s, where a kubelet takes 10 s and 5 minutes.
func backoff(n int) time.Duration {
	d := 200 * time.Millisecond
	for range n {
		if d *= 2; d >= 5*time.Second {
			return 5 * time.Second
		}
	}
	return d
}

// backoffReset is how long a container must have run for its next failure to
// count as the first one.
const backoffReset = 10 * time.Second
