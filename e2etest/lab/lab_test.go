//go:build lab

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"github.com/heraldlb/herald/e2etest/lab/probe"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testTimeout bounds each test, also on a machine that is busy otherwise.
const testTimeout = 5 * time.Minute

// writer sends progress to the test's log.
type writer struct{ t *testing.T }

func (w writer) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// upLab makes a lab that ends with the test.
func upLab(t *testing.T, o Options) (context.Context, *Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	o.Progress = writer{t}
	o.LogDir = filepath.Join(t.TempDir(), "logs")
	c, err := Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(); err != nil {
			t.Error(err)
		}
		if left := traces(c.State); len(left) > 0 {
			t.Errorf("the lab left behind: %v", left)
		}
	})
	return ctx, c
}

// traces lists what there is of a lab.
func traces(s State) []string {
	var left []string
	names, _ := nsnet.List(func(n string) bool { return strings.HasPrefix(n, namespacePrefix(s.Options.Name)) })
	left = append(left, names...)
	procs, _ := nsnet.Processes(names)
	for _, p := range procs {
		left = append(left, p.Program)
	}
	if s.Alive() {
		left = append(left, "supervisor")
	}
	if _, err := os.Stat(s.Options.StateDir); err == nil {
		left = append(left, s.Options.StateDir)
	}
	return left
}

// eventually waits until ok returns nil.
func eventually(ctx context.Context, t *testing.T, within time.Duration, what string, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
	}
}

// echoImage builds the workload for a test.
func echoImage(t *testing.T) map[string]string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "echo")
	if err := BuildImage(t.Context(), "..", "./echo", out, writer{t}); err != nil {
		t.Fatal(err)
	}
	return map[string]string{EchoImage: out}
}

// web is a deployment of three pods, one on each node where there are three, and
// a NodePort Service of it.
const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers:
      - {name: echo, image: ` + EchoImage + `}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: tcp, port: 9000, nodePort: 30090}
  - {name: udp, port: 9000, protocol: UDP, nodePort: 30091}
`

// ask gets http://address from a host once.
func askHTTP(ctx context.Context, c *Cluster, host, address string) (string, error) {
	return c.Exec(ctx, host, c.State.Options.Images[EchoImage], "ask", "http", address)
}

func reachable(ctx context.Context, c *Cluster, from, addr string) error {
	_, err := c.Exec(ctx, from, "ping", "-c", "1", "-W", "1", addr)
	return err
}

// One lab, and everything that can be done with it, in the order of a story.
func TestLab(t *testing.T) {
	ctx, c := upLab(t, Options{Name: "selftest", Clients: 2, Images: echoImage(t), Segments: make([]SegmentOptions, 2)})
	if err := c.Apply(ctx, web); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=60s"); err != nil {
		t.Fatal(err)
	}

	t.Run("a client is answered through every node, over both families", func(t *testing.T) {
		for _, n := range c.State.Layout.Nodes {
			for _, addr := range n.Interfaces[0].Addrs() {
				target := fmt.Sprintf("%s:30080", addr)
				if addr.Is6() {
					target = fmt.Sprintf("[%s]:30080", addr)
				}
				eventually(ctx, t, 20*time.Second, target, func() error {
					answer, err := askHTTP(ctx, c, "client2", target)
					if err == nil && !strings.HasPrefix(answer, "pod=web-") {
						err = fmt.Errorf("the answer is %q", answer)
					}
					return err
				})
			}
		}
	})

	t.Run("nodes reach the cluster addresses, the API server's included", func(t *testing.T) {
		client := must(c.Client())(t)
		svc, err := client.CoreV1().Services("default").Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, ip := range svc.Spec.ClusterIPs {
			target := ip + ":80"
			if strings.Contains(ip, ":") {
				target = "[" + ip + "]:80"
			}
			if _, err := askHTTP(ctx, c, "node1", target); err != nil {
				t.Error(err)
			}
		}
		out, err := c.Exec(ctx, "node2", "curl", "-sk", "--max-time", "5", "https://10.96.0.1/version")
		if err != nil || !strings.Contains(out, kubeVersion) {
			t.Errorf("node2 asks kubernetes.default: %v, %q", err, out)
		}
	})

	t.Run("kubectl shows a pod's log", func(t *testing.T) {
		out, err := c.Kubectl(ctx, "logs", "deployment/web")
		if err != nil || !strings.Contains(out, "serves http") {
			t.Errorf("kubectl logs: %v, %q", err, out)
		}
	})

	t.Run("the second segment is a network of its own", func(t *testing.T) {
		for _, addr := range []string{"192.168.201.12", "fd00:201::12"} {
			if err := reachable(ctx, c, "client1", addr); err != nil {
				t.Error(err)
			}
		}
	})

	t.Run("a pulled cable takes the carrier, not the node", func(t *testing.T) {
		check(t, c.LinkDown(ctx, "node1", "eth1"))
		out := must(c.Exec(ctx, "node1", "ip", "link", "show", "eth1"))(t)
		if !strings.Contains(out, "NO-CARRIER") {
			t.Errorf("eth1 of node1 has a carrier: %s", out)
		}
		if err := reachable(ctx, c, "client1", "192.168.200.11"); err != nil {
			t.Errorf("eth0 of node1: %v", err)
		}
		check(t, c.LinkUp(ctx, "node1", "eth1"))
		eventually(ctx, t, 10*time.Second, "eth1 again", func() error { return reachable(ctx, c, "client1", "192.168.201.11") })
	})

	t.Run("a partition splits the segment and nothing else", func(t *testing.T) {
		check(t, c.Partition(ctx, "node1", "client2"))
		if reachable(ctx, c, "client1", "192.168.200.11") == nil {
			t.Error("client1 still reaches node1")
		}
		for from, to := range map[string]string{"client2": "192.168.200.11", "client1": "fd00:200::12", "cp": "172.31.0.11"} {
			if err := reachable(ctx, c, from, to); err != nil {
				t.Error(err)
			}
		}
		check(t, c.Heal(ctx))
		if err := reachable(ctx, c, "client1", "192.168.200.11"); err != nil {
			t.Error(err)
		}
	})

	t.Run("without the API server traffic flows on", func(t *testing.T) {
		check(t, c.StopProgram(ctx, "cp", "kube-apiserver"))
		if out, err := c.Kubectl(ctx, "get", "nodes", "--request-timeout=2s"); err == nil {
			t.Errorf("a stopped API server answers: %s", out)
		}
		if _, err := askHTTP(ctx, c, "client1", "192.168.200.12:30080"); err != nil {
			t.Error(err)
		}
		check(t, c.StartProgram(ctx, "cp", "kube-apiserver"))
		if _, err := c.Kubectl(ctx, "get", "nodes"); err != nil {
			t.Error(err)
		}
	})

	t.Run("a killed program comes back", func(t *testing.T) {
		before := programs(t, c, "node3", "kube-proxy")
		check(t, c.Kill(ctx, "node3", "kube-proxy"))
		eventually(ctx, t, 10*time.Second, "kube-proxy", func() error {
			if after := programs(t, c, "node3", "kube-proxy"); len(after) != 1 || after[0] == before[0] {
				return fmt.Errorf("kube-proxy runs as %v, before as %v", after, before)
			}
			return nil
		})
	})

	t.Run("a pod that is killed is started again by its agent", func(t *testing.T) {
		before := programs(t, c, "node1", "echo")
		check(t, c.Kill(ctx, "node1", "echo"))
		eventually(ctx, t, 30*time.Second, "echo", func() error {
			if after := programs(t, c, "node1", "echo"); len(after) == 0 || slices.Equal(after, before) {
				return fmt.Errorf("echo runs as %v, before as %v", after, before)
			}
			return nil
		})
	})

	t.Run("a node without power is silent, and boots", func(t *testing.T) { powerCycle(ctx, t, c) })

	t.Run("a paused node goes on", func(t *testing.T) {
		agent := programs(t, c, "node3", "agent")
		if _, err := c.Fault(ctx, "pause", "node3"); err != nil {
			t.Fatal(err)
		}
		if reachable(ctx, c, "client1", "192.168.200.13") == nil {
			t.Error("a paused node answers")
		}
		if _, err := c.Fault(ctx, "resume", "node3"); err != nil {
			t.Fatal(err)
		}
		eventually(ctx, t, 10*time.Second, "node3", func() error { return reachable(ctx, c, "client1", "192.168.200.13") })
		if again := programs(t, c, "node3", "agent"); !slices.Equal(agent, again) {
			t.Errorf("the agent is process %v, before %v", again, agent)
		}
	})

	t.Run("a fault that makes no sense is told apart", func(t *testing.T) {
		for _, tc := range []struct{ verb, arg, want string }{
			{"power-off", "node9", `no host "node9"`},
			{"power-off", "client1", "is not a node"},
			{"power-on", "node1", "is on already"},
			{"explode", "node1", "no such fault, want one of: "},
		} {
			if _, err := c.Fault(ctx, tc.verb, tc.arg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s %s: %v, want %q", tc.verb, tc.arg, err, tc.want)
			}
		}
	})

	t.Run("a second lab of the name is refused", func(t *testing.T) {
		if other, err := Up(ctx, Options{Name: "selftest"}); err == nil {
			t.Error(errors.Join(errors.New("it started"), other.Down()))
		} else if !strings.Contains(err.Error(), "already running") {
			t.Error(err)
		}
	})
}

// powerCycle takes a node's power while probes go through it, and gives it back.
func powerCycle(ctx context.Context, t *testing.T, c *Cluster) {
	p, err := c.Probe(ctx, "client1", probe.Options{Targets: []probe.Target{
		must(probe.ParseTarget("192.168.200.12:30090"))(t),
		must(probe.ParseTarget("udp://[fd00:200::12]:30091"))(t),
		must(probe.ParseTarget("192.168.200.11:30090"))(t),
	}})
	if err != nil {
		t.Fatal(err)
	}
	check(t, c.PowerOff(ctx, "node2"))
	procs, err := nsnet.Processes([]string{"herald-selftest-node2"})
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"agent", "kube-proxy", "echo"} {
		if !slices.ContainsFunc(procs, func(p nsnet.Process) bool { return p.Program == program }) {
			t.Errorf("the processes of node2 are %v, want %s among them", procs, program)
		}
	}
	for _, proc := range procs {
		if proc.State != 'T' {
			t.Errorf("%s of a node without power is in state %c", proc.Program, proc.State)
		}
	}
	if reachable(ctx, c, "cp", "172.31.0.12") == nil {
		t.Error("a node without power answers on the management network")
	}
	check(t, c.PowerOn(ctx, "node2"))
	eventually(ctx, t, 30*time.Second, "node2 serves again", func() error {
		_, err := askHTTP(ctx, c, "client1", "192.168.200.12:30080")
		return err
	})
	results, err := p.Stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results[:2] {
		if r.Lost == 0 || r.Longest < 100*time.Millisecond || r.Open {
			t.Errorf("probes of a node that was off meanwhile: %+v", r)
		}
		t.Logf("%s was out for %s", r.Target, r.Longest)
	}
	if r := results[2]; r.Total == 0 {
		t.Errorf("probes of another node: %+v", r)
	}
	node, err := must(c.Client())(t).CoreV1().Nodes().Get(ctx, "node2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}) {
		t.Errorf("node2 is not Ready after its boot: %v", node.Status.Conditions)
	}
}

// programs returns the pids of a program on a host.
func programs(t *testing.T, c *Cluster, host, program string) []int {
	t.Helper()
	h := must(c.State.Layout.Host(host))(t)
	var pids []int
	for _, p := range must(nsnet.Processes([]string{h.Namespace}))(t) {
		if p.Program == program {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// A lab whose supervisor was killed is swept by the next one of its name, and one
// that nobody starts again by Remove.
func TestCrashIsSwept(t *testing.T) {
	ctx, c := upLab(t, Options{Name: "crash", Nodes: 1})
	crash := func(c *Cluster) {
		t.Helper()
		check(t, syscall.Kill(c.State.Supervisor, syscall.SIGKILL))
		<-c.ended
		if left := traces(c.State); !slices.Contains(left, "herald-crash-node1") {
			t.Fatalf("after a crash there is %v; this test wants something to sweep", left)
		}
	}
	crash(c)
	if _, err := Attach("crash"); err == nil || !strings.Contains(err.Error(), "does not run any more") {
		t.Errorf("attach to a crashed lab: %v", err)
	}
	again, err := Up(ctx, Options{Name: "crash", Nodes: 1, Progress: writer{t}})
	if err != nil {
		t.Fatal(err)
	}
	crash(again)
	check(t, Remove("crash", DefaultStateDir("crash")))
	if left := traces(again.State); len(left) > 0 {
		t.Errorf("Remove left %v", left)
	}
}

// A lab ends with its owner, or at the end of its life, and leaves nothing.
func TestLabsEndByThemselves(t *testing.T) {
	ctx, c := upLab(t, Options{Name: "orphan", Nodes: 1})
	c.lifeline.Close() // what the kernel does when a test crashes
	eventually(ctx, t, 20*time.Second, "the end of a lab without an owner", func() error { return gone(c.State) })

	_, c = upLab(t, Options{Name: "brief", Nodes: 1, Life: time.Second})
	eventually(ctx, t, 20*time.Second, "the end of a lab's life", func() error { return gone(c.State) })
}

func gone(s State) error {
	if left := traces(s); len(left) > 0 {
		return fmt.Errorf("there still is %v", left)
	}
	return nil
}

// Labs of one family work, side by side.
func TestSingleStack(t *testing.T) {
	images := echoImage(t)
	for families, target := range map[Families]string{IPv4Only: "192.168.200.11:30080", IPv6Only: "[fd00:200::11]:30080"} {
		t.Run(string(families), func(t *testing.T) {
			t.Parallel()
			ctx, c := upLab(t, Options{Name: string(families), Nodes: 1, Families: families, Images: images})
			check(t, c.Apply(ctx, web))
			eventually(ctx, t, 60*time.Second, "an answer from "+target, func() error {
				_, err := askHTTP(ctx, c, "client1", target)
				return err
			})
		})
	}
}

// must unwraps a result in an expression: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		check(t, err)
		return v
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
