//go:build lab

package apitest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/heraldlb/herald/e2etest/lab"
)

const (
	system    = "metallb-system"
	namespace = "apps"
	// patience is how long a test waits for what should take moments.
	patience = 30 * time.Second
)

// world is the one control plane that the tests share, one after the other.
var world struct {
	cp         *lab.ControlPlane
	admin      *rest.Config
	client     kubernetes.Interface
	dynamic    dynamic.Interface
	controller string
	kubeconfig string
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		dir, err := os.MkdirTemp("", "herald-apitest-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = setUp(ctx, dir)
		}
		if world.cp != nil {
			defer world.cp.Down()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "apitest:", err)
			return 1
		}
		return m.Run()
	}())
}

func setUp(ctx context.Context, dir string) error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	world.controller = filepath.Join(dir, "controller")
	build := exec.CommandContext(ctx, "go", "build", "-o", world.controller, "./controller")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the controller: %w\n%s", err, out)
	}
	if world.cp, err = lab.UpControlPlane(ctx, lab.ControlPlaneOptions{}); err != nil {
		return fmt.Errorf("start the control plane: %w", err)
	}
	if world.admin, err = world.cp.RESTConfig(); err != nil {
		return err
	}
	world.admin.QPS = -1
	world.admin.RateLimiter = nil
	if world.client, err = kubernetes.NewForConfig(world.admin); err != nil {
		return err
	}
	if world.dynamic, err = dynamic.NewForConfig(world.admin); err != nil {
		return err
	}
	if err := kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(root, "config/default")); err != nil {
		return err
	}
	if _, err := world.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	world.kubeconfig = filepath.Join(dir, "kubeconfig")
	if err := writeKubeconfig(ctx, world.kubeconfig); err != nil {
		return err
	}
	return served(ctx)
}

// served waits until the API server knows the kinds.
func served(ctx context.Context) error {
	for {
		_, err := world.dynamic.Resource(pools).Namespace(system).List(ctx, metav1.ListOptions{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the custom resources: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// kubectl runs as the administrator.
func kubectl(ctx context.Context, args ...string) error {
	bin, err := lab.FindBin()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "kube"), append([]string{"kubectl", "--kubeconfig", world.cp.Kubeconfig}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// writeKubeconfig gives the controller the rights of its service account.
func writeKubeconfig(ctx context.Context, path string) error {
	hours := int64(3 * 3600)
	token, err := world.client.CoreV1().ServiceAccounts(system).CreateToken(ctx, "controller",
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &hours}}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("ask for the controller's token: %w", err)
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["lab"] = &clientcmdapi.Cluster{Server: world.admin.Host, CertificateAuthorityData: world.admin.CAData, CertificateAuthority: world.admin.CAFile}
	cfg.AuthInfos["controller"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	cfg.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: "controller"}
	cfg.CurrentContext = "lab"
	return clientcmd.WriteToFile(*cfg, path)
}

// resource names a kind of metallb.io.
func resource(plural string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "metallb.io", Version: "v1beta1", Resource: plural}
}

var (
	pools  = resource("ipaddresspools")
	states = resource("configurationstates")
)

// clean removes what a test made, and what an earlier one left.
func clean(t *testing.T) {
	t.Helper()
	remove := func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		services := world.dynamic.Resource(schema.GroupVersionResource{Version: "v1", Resource: "services"}).Namespace(namespace)
		err := services.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range []schema.GroupVersionResource{pools, states, resource("communities"), resource("l2advertisements")} {
			if err := world.dynamic.Resource(r).Namespace(system).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		// A predecessor that was killed still holds its lease.
		err = world.client.CoordinationV1().Leases(system).Delete(ctx, "metallb-controller", metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
	}
	remove()
	t.Cleanup(remove)
}

// A process is a controller that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  string
	url  string
	done chan struct{}
}

// startController runs a controller with more flags. It ends with the test.
func startController(t *testing.T, flags ...string) *process {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	p := &process{t: t, log: filepath.Join(dir, "log"), url: fmt.Sprintf("http://127.0.0.1:%d", port), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(world.controller, append([]string{
		"--kubeconfig=" + world.kubeconfig, "--namespace=" + system, "--port=0", fmt.Sprintf("--health-probe-port=%d", port),
		"--deployment=controller", "--ml-secret-name=memberlist", "--pod-name=controller-test", "--log-level=debug",
	}, flags...)...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("the controller's log:\n%s", p.tail())
		}
	})
	return p
}

// stop ends the process and waits for its end; SIGTERM gives back the lease.
func (p *process) stop(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
		p.t.Errorf("the controller did not end within %s of %s", patience, sig)
	}
}

func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	if len(data) > 20_000 {
		data = data[len(data)-20_000:]
	}
	return string(data)
}

// logged reports whether the process wrote a line with text.
func (p *process) logged(text string) bool {
	data, err := os.ReadFile(p.log)
	return err == nil && bytes.Contains(data, []byte(text))
}

// ready waits for the process to say so.
func (p *process) ready() {
	p.t.Helper()
	eventually(p.t, "the controller is ready", func() error {
		resp, err := http.Get(p.url + "/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz says %s", resp.Status)
		}
		return nil
	})
}

// leads waits until the process has adopted what there is.
func (p *process) leads() {
	p.t.Helper()
	eventually(p.t, "the controller leads", func() error {
		if !p.logged("adopted the existing assignments") {
			return fmt.Errorf("it has not adopted anything")
		}
		return nil
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually polls until check returns nil, and fails with what it said last.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	within(t, patience, what, check)
}

func within(t *testing.T, limit time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// never fails if check returns an error within a while.
func never(t *testing.T, while time.Duration, what string, check func() error) {
	t.Helper()
	for end := time.Now().Add(while); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		if err := check(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// makePool creates a pool; spec overrides the addresses.
func makePool(t *testing.T, name string, addresses ...string) {
	t.Helper()
	list := make([]any, len(addresses))
	for i, a := range addresses {
		list[i] = a
	}
	makeObject(t, pools, "IPAddressPool", name, map[string]any{"addresses": list})
}

func makeObject(t *testing.T, r schema.GroupVersionResource, kind, name string, spec map[string]any) {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "metallb.io/v1beta1", "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": system}, "spec": spec,
	}}
	if _, err := world.dynamic.Resource(r).Namespace(system).Create(t.Context(), o, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func deletePool(t *testing.T, name string) {
	t.Helper()
	if err := world.dynamic.Resource(pools).Namespace(system).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// serviceObject is a Service of type LoadBalancer on port 80.
func serviceObject(name string, change ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	for _, c := range change {
		c(svc)
	}
	return svc
}

func annotated(key, value string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		if svc.Annotations == nil {
			svc.Annotations = map[string]string{}
		}
		svc.Annotations[key] = value
	}
}

func dualStack(svc *corev1.Service) {
	policy := corev1.IPFamilyPolicyPreferDualStack
	svc.Spec.IPFamilyPolicy = &policy
}

func makeService(t *testing.T, name string, change ...func(*corev1.Service)) {
	t.Helper()
	if _, err := world.client.CoreV1().Services(namespace).Create(t.Context(), serviceObject(name, change...), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func getService(t *testing.T, name string) *corev1.Service {
	t.Helper()
	svc, err := world.client.CoreV1().Services(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

// patchService merges a patch into a Service or its status.
func patchService(t *testing.T, name, patch string, subresources ...string) {
	t.Helper()
	if _, err := world.client.CoreV1().Services(namespace).Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...); err != nil {
		t.Fatal(err)
	}
}

func addresses(svc *corev1.Service) string {
	var list []string
	for _, i := range svc.Status.LoadBalancer.Ingress {
		list = append(list, i.IP)
	}
	return strings.Join(list, ",")
}

// has waits until a Service has exactly these addresses, joined by commas.
func has(t *testing.T, name, want string) *corev1.Service {
	t.Helper()
	var svc *corev1.Service
	eventually(t, fmt.Sprintf("Service %s has %q", name, want), func() error {
		svc = getService(t, name)
		if got := addresses(svc); got != want {
			return fmt.Errorf("it has %q; conditions %+v", got, svc.Status.Conditions)
		}
		return nil
	})
	return svc
}

func assigned(svc *corev1.Service) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if c := &svc.Status.Conditions[i]; c.Type == "heraldlb.io/Assigned" {
			return c
		}
	}
	return nil
}

// says waits until the condition of a Service has this reason.
func says(t *testing.T, name, reason string) *metav1.Condition {
	t.Helper()
	var c *metav1.Condition
	eventually(t, fmt.Sprintf("Service %s says %s", name, reason), func() error {
		c = assigned(getService(t, name))
		if c == nil || c.Reason != reason {
			return fmt.Errorf("it says %+v", c)
		}
		return nil
	})
	return c
}
