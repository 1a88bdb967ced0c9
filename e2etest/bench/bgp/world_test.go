//go:build lab

package bgp

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heraldlb/herald/e2etest/bench/progress"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

const (
	// limit bounds one benchmark: several times what the longest takes when the
	// machine has nothing else to do.
	limit = 6 * time.Minute
	// patience is how long anything may take that should take moments.
	patience = 60 * time.Second

	nodeName = "node"
	podName  = "speaker-node"
)

// world is what the benchmarks share, made when the first one begins: the API
// server with Herald's objects in it.
var world shared

type shared struct {
	once       sync.Once
	err        error
	dir        string
	cp         *lab.ControlPlane
	kube       kubernetes.Interface
	kubeconfig string // with the speaker's rights
	node       *nsnet.Namespace
}

// end is called after the last benchmark.
func (s *shared) end() {
	if s.cp != nil {
		_ = s.cp.Down() // what is left of it ends with this process
	}
}

// A rig is one benchmark's: a switch, routers and a speaker, on the shared world.
type rig struct {
	*testing.B
	*shared
	ctx      context.Context
	switches *nsnet.Namespace
	routers  []*router
	speaker  *speaker
}

// newRig makes a rig without routers, that ends with the benchmark. The API server
// holds no Services and no configuration.
func newRig(b *testing.B) *rig {
	b.Helper()
	b.ReportMetric(0, "ns/op") // the time of a whole benchmark says nothing
	ctx, cancel := context.WithTimeout(b.Context(), limit)
	b.Cleanup(cancel)
	r := &rig{B: b, shared: &world, ctx: ctx}
	r.load("start")
	world.once.Do(func() { world.err = world.begin(ctx) })
	r.must(world.err)
	r.clearObjects()
	var err error
	name := "switch"
	r.switches, err = nsnet.Create(name)
	r.must(err)
	b.Cleanup(func() {
		r.switches.Close()
		_ = nsnet.Delete(name)
	})
	r.must(r.switches.Bridge("lan"))
	r.plug(r.node, "eth0", nodeName, nodeAddr)
	b.Cleanup(func() { _ = r.node.Unplug("eth0") })
	return r
}

// begin starts the API server, installs Herald's objects, and adds those of a node
// and of its speaker's pod.
func (s *shared) begin(ctx context.Context) (err error) {
	s.dir = os.Getenv(inside)
	if s.node, err = nsnet.Current(); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("bring the loopback up: %w: %s", err, out)
	}
	if err := s.node.Sysctl(settings); err != nil {
		return err
	}
	if s.cp, err = lab.UpControlPlane(ctx, lab.ControlPlaneOptions{}); err != nil {
		return err
	}
	cfg, err := s.cp.RESTConfig()
	if err != nil {
		return err
	}
	cfg.QPS = -1 // the API server paces
	cfg.ContentType, cfg.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf
	if s.kube, err = kubernetes.NewForConfig(cfg); err != nil {
		return err
	}
	root, err := herald.Root()
	if err != nil {
		return err
	}
	if err := s.kubectl(ctx, "", "apply", "--server-side", "-k", filepath.Join(root, "config", "default")); err != nil {
		return err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: apps}}
	if _, err := s.kube.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the namespace of the Services: %w", err)
	}
	return s.makeNode(ctx)
}

// makeNode adds the node, its speaker's pod, and the speaker's way to the API.
func (s *shared) makeNode(ctx context.Context) error {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	node, err := s.kube.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make the node: %w", err)
	}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddr.Addr().String()}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err := s.kube.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("make the node ready: %w", err)
	}
	owner, err := s.kube.AppsV1().DaemonSets(herald.Namespace).Get(ctx, "speaker", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("find the DaemonSet: %w", err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: podName, Namespace: herald.Namespace, Labels: owner.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, owner.GroupVersionKind())},
		},
		Spec: owner.Spec.Template.Spec,
	}
	pod.OwnerReferences[0].APIVersion, pod.OwnerReferences[0].Kind = "apps/v1", "DaemonSet"
	pod.Spec.NodeName = nodeName
	if _, err := s.kube.CoreV1().Pods(herald.Namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("make the speaker's pod: %w", err)
	}
	hours := int64(3 * 3600)
	token, err := s.kube.CoreV1().ServiceAccounts(herald.Namespace).CreateToken(ctx, "speaker",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ask for the speaker's token: %w", err)
	}
	admin, err := s.cp.RESTConfig()
	if err != nil {
		return err
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["lab"] = &clientcmdapi.Cluster{Server: admin.Host, CertificateAuthorityData: admin.CAData, CertificateAuthority: admin.CAFile}
	cfg.AuthInfos["speaker"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	cfg.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "speaker"}
	cfg.CurrentContext = "lab"
	s.kubeconfig = filepath.Join(s.dir, "kubeconfig")
	return clientcmd.WriteToFile(*cfg, s.kubeconfig)
}

// kubectl runs as the administrator.
func (s *shared) kubectl(ctx context.Context, input string, args ...string) error {
	bin, err := lab.FindBin()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kube"), append([]string{"kubectl", "--kubeconfig", s.cp.Kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// apply creates or changes objects of Herald.
func (r *rig) apply(objects ...map[string]any) {
	r.Helper()
	var input strings.Builder
	for _, o := range objects {
		raw, err := json.Marshal(o)
		r.must(err)
		input.WriteString("---\n" + string(raw) + "\n")
	}
	r.must(r.kubectl(r.ctx, input.String(), "apply", "--server-side", "--force-conflicts", "-f", "-"))
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

func (r *rig) load(when string) { progress.Load(r, when) }

func (r *rig) step(format string, args ...any) { progress.Step(r, format, args...) }

// until polls a condition until it holds, and fails with its last complaint.
func (r *rig) until(what string, every time.Duration, condition func() error) {
	r.Helper()
	progress.Until(r.ctx, r, what, patience, every, condition)
}

// pause lets time pass that is part of what is measured.
func (r *rig) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.ctx.Done():
	}
}
