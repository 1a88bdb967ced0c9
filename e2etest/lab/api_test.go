//go:build lab

package lab

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An API server alone answers, keeps its data through a restart, and validates.
func TestControlPlaneAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	cp, err := UpControlPlane(ctx, ControlPlaneOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cp.Down(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("ready after %s", time.Since(start).Round(time.Millisecond))
	client, err := cp.Client()
	if err != nil {
		t.Fatal(err)
	}
	dual := corev1.IPFamilyPolicyRequireDualStack
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &dual,
			Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	if svc, err = client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if len(svc.Spec.ClusterIPs) != 2 {
		t.Errorf("a dual-stack Service has cluster addresses %v, want two", svc.Spec.ClusterIPs)
	}
	if err := cp.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Services("default").Get(ctx, "web", metav1.GetOptions{}); err == nil {
		t.Error("a stopped API server answers")
	}
	if err := cp.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Services("default").Get(ctx, "web", metav1.GetOptions{}); err != nil {
		t.Errorf("after a restart of the API server: %v", err)
	}
}

// What a crashed control plane left in the temporary folder goes with the next.
func TestCrashedControlPlanesAreRemoved(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	crashed := filepath.Join(os.TempDir(), "herald-api-999999999-1-1")
	foreign := filepath.Join(os.TempDir(), "herald-api-of-somebody-else")
	for _, dir := range []string{crashed, foreign} {
		check(t, os.MkdirAll(filepath.Join(dir, "etcd"), 0o755))
	}
	mine := must(apiDir())(t)
	if again := must(apiDir())(t); again == mine {
		t.Errorf("two control planes of one process share the folder %s", mine)
	}
	if _, err := os.Stat(crashed); err == nil {
		t.Error("the folder of a process that does not exist is still there")
	}
	for _, dir := range []string{mine, foreign} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
