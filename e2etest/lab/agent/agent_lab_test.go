//go:build lab

package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/agent"
)

// insideEnv marks the run of the test binary in a network namespace of its own.
const insideEnv = "HERALD_AGENT_TEST_INSIDE"

// The node's addresses.
const node4, node6 = "192.0.2.10", "fd77::10"

// TestMain runs the tests in a new network namespace, which is the node's.
func TestMain(m *testing.M) {
	agent.MaybeInit()
	if os.Getenv(insideEnv) == "" {
		if os.Geteuid() != 0 {
			fmt.Fprintln(os.Stderr, "these tests make namespaces and mounts; run them as root")
			os.Exit(1)
		}
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Env = append(os.Environ(), insideEnv+"=1")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Run(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	for _, args := range []string{"link set lo up", "addr add " + node4 + "/32 dev lo", "addr add " + node6 + "/128 dev lo nodad"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip %s: %v: %s\n", args, err, out)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// world is an API server with one node.
type world struct {
	t      *testing.T
	client kubernetes.Interface
	state  string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	cp, err := lab.UpControlPlane(ctx, lab.ControlPlaneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Down(); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	report := filepath.Join(dir, "report")
	build := exec.Command("go", "build", "-o", report, "./sandbox/testdata/report")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the report binary: %v\n%s", err, out)
	}
	images := filepath.Join(dir, "images.json")
	if err := os.WriteFile(images, fmt.Appendf(nil, `{"report":%q}`, report), 0o644); err != nil {
		t.Fatal(err)
	}
	client, err := cp.Client()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, client: client, state: filepath.Join(dir, "node")}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		done <- agent.Run(run, agent.Config{
			Name: "node1", Kubeconfig: cp.Kubeconfig, ImagesFile: images, StateDir: w.state,
			PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.77.1.0/24"), netip.MustParsePrefix("fd77:1::/64")},
			NodeIPs:  []netip.Addr{netip.MustParseAddr(node4), netip.MustParseAddr(node6)},
			Log:      slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("the agent: %v", err)
		}
		if left, err := os.ReadDir(filepath.Join(w.state, "pids")); err != nil || len(left) > 0 {
			t.Errorf("processes left after the agent: %v, %v", left, err)
		}
	})
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := client.CoreV1().ServiceAccounts("default").Create(ctx, sa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ca := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "x"}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, ca, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("node1 is Ready with its CIDRs and Lease", func() string {
		n, err := client.CoreV1().Nodes().Get(ctx, "node1", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if len(n.Spec.PodCIDRs) != 2 || len(n.Status.Addresses) != 3 {
			return fmt.Sprintf("CIDRs %v, addresses %v", n.Spec.PodCIDRs, n.Status.Addresses)
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeNetworkUnavailable {
				return "NetworkUnavailable is set, and nobody asked the agent to"
			}
		}
		_, err = client.CoordinationV1().Leases("kube-node-lease").Get(ctx, "node1", metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		return ""
	})
	return w
}

// eventually polls until check returns "", for 20 s at most.
func (w *world) eventually(what string, check func() string) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		why := check()
		if why == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("not within 20 s: %s: %s", what, why)
		}
	}
}

func (w *world) create(pod *corev1.Pod) *corev1.Pod {
	w.t.Helper()
	pod.Namespace, pod.Spec.NodeName = "default", "node1"
	got, err := w.client.CoreV1().Pods("default").Create(w.t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func (w *world) waitPod(name, what string, ok func(*corev1.Pod) bool) *corev1.Pod {
	w.t.Helper()
	var pod *corev1.Pod
	w.eventually("pod "+name+" "+what, func() string {
		p, err := w.client.CoreV1().Pods("default").Get(w.t.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err.Error()
		}
		if pod = p; ok(p) {
			return ""
		}
		b, _ := json.Marshal(p.Status)
		return string(b)
	})
	return pod
}

func ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// waitUp waits until the pod is ready and its process handles SIGTERM: before
// that, the first process of a pid namespace does not receive it, here as in
// any container.
func (w *world) waitUp(name string) *corev1.Pod {
	w.t.Helper()
	pod := w.waitPod(name, "is ready", ready)
	w.eventually("the process of pod "+name+" is up", func() string { return lacks(w.log(name), "ready") })
	return pod
}

func (w *world) delete(name string) {
	w.t.Helper()
	if err := w.client.CoreV1().Pods("default").Delete(w.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.eventually("pod "+name+" is gone", func() string {
		_, err := w.client.CoreV1().Pods("default").Get(w.t.Context(), name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprint(err)
	})
}

func (w *world) log(pod string) string {
	b, err := os.ReadFile(filepath.Join(w.state, "logs", "default_"+pod+"_c.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func podOf(name string, args ...string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "report", Args: args}}}}
}

func TestNodeRunsPods(t *testing.T) {
	w := newWorld(t)
	t.Run("a pod has its own network, identity and volumes", w.testContainer)
	t.Run("a host-network pod has the node's network", w.testHostNetwork)
	t.Run("a Secret reaches its volume while the pod runs", w.testRefresh)
	t.Run("a container that fails is restarted with back-off", w.testRestart)
	t.Run("a missing image is a waiting reason until it is there", w.testMissingImage)
	t.Run("labels and conditions of others survive", w.testForeignWrites)
	t.Run("a failing liveness probe restarts, a readiness probe gates", w.testProbes)
	t.Run("init containers run first and in order", w.testInit)
}

// seen mirrors a part of sandbox/testdata/report.
type seen struct {
	PID, UID int
	Hostname string
	Env      []string
	Links    []string
	Files    map[string]string
}

func (w *world) testContainer(t *testing.T) {
	w = &world{t, w.client, w.state}
	pod := podOf("own", "/var/run/secrets/kubernetes.io/serviceaccount/token", "/var/run/secrets/kubernetes.io/serviceaccount/namespace", "/info/labels")
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	c := &pod.Spec.Containers[0]
	c.Env = []corev1.EnvVar{{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIPs"}}}}
	c.SecurityContext = &corev1.SecurityContext{RunAsUser: ptr.To[int64](65532)}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "info", MountPath: "/info"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "info", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
		Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}}}}
	w.create(pod)
	p := w.waitPod("own", "succeeds", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	var r seen
	if err := json.Unmarshal([]byte(w.log("own")), &r); err != nil {
		t.Fatalf("log %q: %v", w.log("own"), err)
	}
	if r.PID != 1 || r.UID != 65532 || r.Hostname != "own" || !slices.Equal(r.Links, []string{"lo", "eth0"}) {
		t.Errorf("it saw pid %d, uid %d, hostname %s, links %v", r.PID, r.UID, r.Hostname, r.Links)
	}
	if len(p.Status.PodIPs) != 2 || !strings.HasPrefix(p.Status.PodIP, "10.77.1.") {
		t.Errorf("pod IPs %v, want one of each CIDR", p.Status.PodIPs)
	} else if want := "IP=" + p.Status.PodIPs[0].IP + "," + p.Status.PodIPs[1].IP; !slices.Contains(r.Env, want) {
		t.Errorf("environment %v has no %s", r.Env, want)
	}
	if tok := r.Files[c.Name]; tok != "" {
		t.Errorf("unexpected file %q", tok)
	}
	if tok := r.Files["/var/run/secrets/kubernetes.io/serviceaccount/token"]; strings.Count(tok, ".") != 2 {
		t.Errorf("token %q is none", tok)
	}
	if got := r.Files["/info/labels"]; got != `app="own"` {
		t.Errorf("labels file holds %q", got)
	}
	w.delete("own")
}

func (w *world) testHostNetwork(t *testing.T) {
	w = &world{t, w.client, w.state}
	pod := podOf("host", "sleep")
	pod.Spec.HostNetwork = true
	w.create(pod)
	p := w.waitUp("host")
	if p.Status.PodIP != node4 || len(p.Status.HostIPs) != 2 {
		t.Errorf("pod IP %s, host IPs %v; want the node's", p.Status.PodIP, p.Status.HostIPs)
	}
	// It ends by SIGTERM with status 7, long before its grace period of 30 s.
	w.delete("host")
	if log := w.log("host"); !strings.Contains(log, "terminated") {
		t.Errorf("log %q: the process did not see SIGTERM", log)
	}
}

// lacks is "" when part is in s.
func lacks(s, part string) string {
	if strings.Contains(s, part) {
		return ""
	}
	return fmt.Sprintf("%q has no %q", s, part)
}

func (w *world) testRefresh(t *testing.T) {
	w = &world{t, w.client, w.state}
	secrets := w.client.CoreV1().Secrets("default")
	pod := podOf("refresh", "sleep")
	pod.Spec.Volumes = []corev1.Volume{{Name: "key", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "key"}}}}
	pod = w.create(pod)
	w.waitPod("refresh", "says what it waits for", func(p *corev1.Pod) bool { return strings.Contains(p.Status.Message, `Secret "key" not found`) })
	s, err := secrets.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "key"}, StringData: map[string]string{"k": "one"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.waitUp("refresh")
	file := filepath.Join(w.state, "pods", string(pod.UID), "volumes", "key", "k")
	if b, err := os.ReadFile(file); err != nil || string(b) != "one" {
		t.Fatalf("volume holds %q, %v", b, err)
	}
	s.StringData = map[string]string{"k": "two"}
	if _, err := secrets.Update(t.Context(), s, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the new key is in the volume", func() string {
		b, err := os.ReadFile(file)
		if err != nil {
			return err.Error()
		}
		return lacks(string(b), "two")
	})
	w.delete("refresh")
	if _, err := os.Stat(filepath.Join(w.state, "pods", string(pod.UID))); !os.IsNotExist(err) {
		t.Errorf("the pod's folder is still there: %v", err)
	}
}

func (w *world) testRestart(t *testing.T) {
	w = &world{t, w.client, w.state}
	w.create(podOf("again", "/etc/hostname"))
	p := w.waitPod("again", "has restarted twice", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount >= 2
	})
	if p.Status.Phase != corev1.PodRunning {
		t.Errorf("phase %s, want Running", p.Status.Phase)
	}
	w.waitPod("again", "waits in CrashLoopBackOff and remembers the last end", func(p *corev1.Pod) bool {
		s := p.Status.ContainerStatuses[0]
		return s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" && s.LastTerminationState.Terminated != nil
	})
	w.delete("again")
}

func (w *world) testMissingImage(t *testing.T) {
	w = &world{t, w.client, w.state}
	pod := podOf("pull", "sleep")
	pod.Spec.Containers[0].Image = "absent:v1"
	w.create(pod)
	w.waitPod("pull", "waits for its image", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil &&
			p.Status.ContainerStatuses[0].State.Waiting.Reason == "ErrImagePull"
	})
	patch := []byte(`{"spec":{"containers":[{"name":"c","image":"report"}]}}`)
	if _, err := w.client.CoreV1().Pods("default").Patch(t.Context(), "pull", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	p := w.waitUp("pull")
	if n := p.Status.ContainerStatuses[0].RestartCount; n != 0 {
		t.Errorf("restart count %d, want 0: nothing ran before", n)
	}
	w.delete("pull")
}

func (w *world) testForeignWrites(t *testing.T) {
	w = &world{t, w.client, w.state}
	pod := podOf("shared", "sleep")
	pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	w.create(pod)
	w.waitPod("shared", "waits for its gate", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].Ready && !ready(p)
	})
	pods := w.client.CoreV1().Pods("default")
	if _, err := pods.Patch(t.Context(), "shared", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"mine":"1"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	gate := []byte(`{"status":{"conditions":[{"type":"example.com/gate","status":"True"}]}}`)
	if _, err := pods.Patch(t.Context(), "shared", types.StrategicMergePatchType, gate, metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	p := w.waitUp("shared")
	if p.Labels["mine"] != "1" {
		t.Errorf("labels %v: the foreign one is gone", p.Labels)
	}
	w.delete("shared")
}

func (w *world) testProbes(t *testing.T) {
	w = &world{t, w.client, w.state}
	pod := podOf("probed", "sleep")
	pod.Spec.TerminationGracePeriodSeconds = ptr.To[int64](1) // it is deleted while it restarts
	closed := corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}
	pod.Spec.Containers[0].ReadinessProbe = &corev1.Probe{ProbeHandler: closed}
	pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{ProbeHandler: closed, PeriodSeconds: 1, FailureThreshold: 1, InitialDelaySeconds: 1}
	w.create(pod)
	p := w.waitPod("probed", "is restarted", func(p *corev1.Pod) bool {
		if ready(p) {
			t.Error("it was ready though its probe fails")
		}
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount > 0
	})
	last := p.Status.ContainerStatuses[0].LastTerminationState.Terminated
	if last == nil || last.ExitCode != 7 || last.Message != "liveness probe failed" {
		t.Errorf("last end %+v, want status 7 by SIGTERM for the liveness probe", last)
	}
	w.delete("probed")
}

func (w *world) testInit(t *testing.T) {
	w = &world{t, w.client, w.state}
	pod := podOf("inits", "sleep")
	mount := []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}
	pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.InitContainers = []corev1.Container{
		{Name: "one", Image: "report", Args: []string{"write:/data/first"}, VolumeMounts: mount},
		{Name: "two", Image: "report", Args: []string{"/data/first"}, VolumeMounts: mount},
	}
	w.create(pod)
	p := w.waitUp("inits")
	for _, s := range p.Status.InitContainerStatuses {
		if s.State.Terminated == nil || s.State.Terminated.Reason != "Completed" {
			t.Errorf("init container %s: %+v, want Completed", s.Name, s.State)
		}
	}
	b, err := os.ReadFile(filepath.Join(w.state, "logs", "default_inits_two.log"))
	if err != nil {
		t.Fatal(err)
	}
	var r seen
	if err := json.Unmarshal(b, &r); err != nil || r.Files["/data/first"] != "x" {
		t.Errorf("the second init container read %q (%v), want what the first wrote", r.Files["/data/first"], err)
	}
	w.delete("inits")
}
