package agent

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func running(ready bool) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", Ready: ready, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
}

func waiting() corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
}

func crashing() corev1.ContainerStatus {
	c := waiting()
	c.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 1}
	return c
}

func terminated(code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
}

func TestPodPhaseAndConditions(t *testing.T) {
	one := []corev1.ContainerStatus{waiting()}
	tests := []struct {
		name  string
		state podState
		gate  corev1.ConditionStatus // of a readiness gate; empty: no gate
		phase corev1.PodPhase
		true_ string // the conditions that are true
	}{
		{name: "nothing started", state: podState{mains: one}, phase: corev1.PodPending, true_: "PodScheduled Initialized"},
		{name: "an init container runs", state: podState{netReady: true, inits: []corev1.ContainerStatus{running(false)}, mains: one},
			phase: corev1.PodPending, true_: "PodScheduled PodReadyToStartContainers"},
		{name: "init containers are done", state: podState{netReady: true, inits: []corev1.ContainerStatus{terminated(0)}, mains: one},
			phase: corev1.PodPending, true_: "PodScheduled PodReadyToStartContainers Initialized"},
		{name: "running and not ready", state: podState{netReady: true, mains: []corev1.ContainerStatus{running(true), running(false)}},
			phase: corev1.PodRunning, true_: "PodScheduled PodReadyToStartContainers Initialized"},
		{name: "ready", state: podState{netReady: true, mains: []corev1.ContainerStatus{running(true)}},
			phase: corev1.PodRunning, true_: "PodScheduled PodReadyToStartContainers Initialized ContainersReady Ready"},
		{name: "a readiness gate holds it", gate: corev1.ConditionFalse, state: podState{netReady: true, mains: []corev1.ContainerStatus{running(true)}},
			phase: corev1.PodRunning, true_: "PodScheduled PodReadyToStartContainers Initialized ContainersReady"},
		{name: "a readiness gate is open", gate: corev1.ConditionTrue, state: podState{netReady: true, mains: []corev1.ContainerStatus{running(true)}},
			phase: corev1.PodRunning, true_: "PodScheduled PodReadyToStartContainers Initialized ContainersReady Ready gate"},
		{name: "crashing again and again", state: podState{netReady: true, mains: []corev1.ContainerStatus{crashing()}},
			phase: corev1.PodRunning, true_: "PodScheduled PodReadyToStartContainers Initialized"},
		{name: "ended well", state: podState{stopped: true, mains: []corev1.ContainerStatus{terminated(0)}},
			phase: corev1.PodSucceeded, true_: "PodScheduled Initialized"},
		{name: "ended badly", state: podState{stopped: true, mains: []corev1.ContainerStatus{terminated(0), terminated(3)}},
			phase: corev1.PodFailed, true_: "PodScheduled Initialized"},
		{name: "stopped before it started", state: podState{stopped: true, mains: one}, phase: corev1.PodFailed, true_: "PodScheduled Initialized"},
		{name: "an init container failed for good", state: podState{stopped: true, inits: []corev1.ContainerStatus{terminated(1)}, mains: one},
			phase: corev1.PodFailed, true_: "PodScheduled"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.state.pod = &corev1.Pod{}
			tt.state.pod.Spec.InitContainers = make([]corev1.Container, len(tt.state.inits))
			if tt.gate != "" {
				tt.state.pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "gate"}}
				tt.state.pod.Status.Conditions = []corev1.PodCondition{{Type: "gate", Status: tt.gate}}
			}
			got := podStatus(tt.state, time.Unix(100, 0))
			if got.Phase != tt.phase {
				t.Errorf("phase %s, want %s", got.Phase, tt.phase)
			}
			for _, c := range got.Conditions {
				want := corev1.ConditionFalse
				for _, name := range strings.Fields(tt.true_) {
					if name == string(c.Type) {
						want = corev1.ConditionTrue
					}
				}
				if c.Status != want {
					t.Errorf("condition %s is %s, want %s", c.Type, c.Status, want)
				}
			}
		})
	}
}

func TestStatusKeepsWhatIsNotItsOwn(t *testing.T) {
	then, now := time.Unix(100, 0), time.Unix(200, 0)
	s := podState{pod: &corev1.Pod{}, netReady: true, mains: []corev1.ContainerStatus{running(true)},
		hostIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
		podIPs:  []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}}
	s.pod.Status.QOSClass = corev1.PodQOSBurstable
	s.pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
	first := podStatus(s, then)
	if first.PodIP != "10.0.0.1" || len(first.PodIPs) != 2 || first.HostIP != "192.0.2.1" || len(first.HostIPs) != 2 {
		t.Errorf("addresses %s %v, %s %v", first.PodIP, first.PodIPs, first.HostIP, first.HostIPs)
	}
	if first.QOSClass != corev1.PodQOSBurstable || first.Conditions[0].Type != corev1.DisruptionTarget {
		t.Errorf("class %q and conditions %v: what others wrote is gone", first.QOSClass, first.Conditions)
	}
	s.pod.Status, s.mains = first, []corev1.ContainerStatus{running(false)}
	second := podStatus(s, now)
	for _, c := range second.Conditions {
		want := then
		switch c.Type {
		case corev1.PodReady, corev1.ContainersReady:
			want = now
		case corev1.DisruptionTarget:
			continue
		}
		if !c.LastTransitionTime.Time.Equal(want) {
			t.Errorf("%s changed at %v, want %v", c.Type, c.LastTransitionTime, want)
		}
	}
	if !second.StartTime.Time.Equal(then) {
		t.Errorf("start time moved to %v", second.StartTime)
	}
}

func TestStatusPatchNamesThePodAndOnlyTheChange(t *testing.T) {
	base := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Name: "p", Labels: map[string]string{"a": "b"}}}
	base.Status.Phase = corev1.PodPending
	status := base.Status
	status.Phase = corev1.PodRunning
	got, err := statusPatch(base, status)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"metadata":{"uid":"u"},"status":{"phase":"Running"}}`; string(got) != want {
		t.Errorf("patch %s, want %s", got, want)
	}
}

func TestBackoffIsBounded(t *testing.T) {
	for n, want := range map[int]time.Duration{0: 200 * time.Millisecond, 1: 400 * time.Millisecond, 4: 3200 * time.Millisecond, 5: 5 * time.Second, 1000: 5 * time.Second} {
		if got := backoff(n); got != want {
			t.Errorf("backoff(%d) = %v, want %v", n, got, want)
		}
	}
}
