//go:build lab

package singlestack

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

const class = "example.org/fast"

// serveClass has Herald serve one class only, until the test ends.
func serveClass(h *harness.Test) {
	h.Helper()
	h.OnEnd("serve Services without a class again", func(context.Context) error {
		// A rollout takes longer than other cleaning up.
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		return herald.Install(ctx, h.Cluster)
	})
	for _, workload := range []string{"deployment/controller", "daemonset/speaker"} {
		_, err := h.Kubectl(h.Ctx, "-n", herald.Namespace, "patch", workload, "--type=json",
			"--patch", `[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--lb-class=`+class+`"}]`)
		h.Must(err)
	}
	h.Must(herald.WaitReady(h.Ctx, h.Cluster))
}

// Herald that serves a class leaves all other Services alone. When a Service of
// the class changes its type, for which Kubernetes takes the class away, nothing
// is left behind: in MetalLB the address stays taken, and announced.
func TestTypeOfAClassedServiceChanges(t *testing.T) {
	h := harness.New(t)
	serveClass(h)
	pool := h.Pool("p", "addresses: ["+h.Block(0).Range4()+"], autoAssign: false")
	h.Advertise("a", "ipAddressPools: ["+pool+"]")
	create := func(name string, options ...harness.ServiceOption) {
		h.Service(name, append(options, harness.From(pool), harness.NoPods)...)
		h.Endpoint(name, h.Nodes()...)
	}
	create("plain")
	create("other", harness.Class("example.org/slow"))
	create("fast", harness.Class(class))
	addr := h.WaitAddress("fast")
	h.AnsweredBy(h.WaitOwner("fast"), addr)

	h.UpdateService("fast", func(s *corev1.Service) { s.Spec.Type, s.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
	h.Eventually(harness.Patience, func() error {
		s, err := h.GetService("fast")
		if err != nil {
			return err
		}
		pool, annotated := s.Annotations["metallb.io/ip-allocated-from-pool"]
		if annotated || len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Status.Conditions) > 0 {
			return fmt.Errorf("the Service still says something: pool %q, status %+v", pool, s.Status)
		}
		return nil
	})
	h.WaitNoOwner("fast")
	h.Unanswered("eth0", time.Second, addr)
	create("next", harness.Class(class), harness.At(addr))
	if got := h.WaitAddress("next"); got != addr {
		t.Errorf("the next Service has %s, want %s", got, addr)
	}
	h.AnsweredBy(h.WaitOwner("next"), addr)

	for _, name := range []string{"plain", "other"} {
		s, err := h.GetService(name)
		h.Must(err)
		if len(s.Status.LoadBalancer.Ingress) > 0 || len(s.Status.Conditions) > 0 {
			t.Errorf("service %s, which is not of the class, was touched: %+v", name, s.Status)
		}
	}
}
