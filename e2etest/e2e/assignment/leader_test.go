//go:build lab

package assignment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// Of two replicas one works. While Services come and go, with fewer addresses
// than Services, the leader is killed, or all are replaced one by one: at no
// moment do two Services have one address (the guard looks), nobody who stays
// loses one, and afterwards everybody is served.
func TestLeaderChangesWhileServicesComeAndGo(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *story)
	}{
		{"Killed", func(s *story) {
			node, holder := s.leader()
			s.Step("kill the leader %s on %s", holder, node)
			s.Must(s.Kill(s.Ctx, node, "controller"))
			s.Eventually(2*harness.Patience, func() error {
				if _, now := s.leader(); now == holder {
					return fmt.Errorf("%s, which is dead, still holds the lease", now)
				}
				return nil
			})
		}},
		{"RolledOver", func(s *story) {
			_, err := s.Kubectl(s.Ctx, "-n", herald.Namespace, "rollout", "restart", "deployment/controller")
			s.Must(err)
			s.Must(herald.WaitReady(s.Ctx, s.Cluster))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			s.WholeAtEnd()
			const addresses = 12
			s.ours("p", s.range4(1, addresses))
			h := s.history()
			for i := range addresses / 3 {
				s.served(fmt.Sprintf("stays-%d", i), s.v4(i+1))
			}
			stop := s.comeAndGo(2 * addresses)
			tt.change(s)
			// The new leader works while they still come and go.
			s.Service("during", harness.At(addr(s.v4(addresses))))
			names, err := stop()
			s.Must(err)
			// Those that come and go leave room in the end.
			s.ours("p", s.range4(1, 4*addresses))
			seen := map[netip.Addr]string{}
			for _, name := range append(names, "during") {
				a := s.WaitAddress(name)
				if other, taken := seen[a]; taken {
					t.Errorf("services %s and %s both have %s", other, name, a)
				}
				seen[a] = name
			}
			s.has("during", s.v4(addresses))
			for i := range addresses / 3 {
				h.was(s, fmt.Sprintf("stays-%d", i), "", s.v4(i+1))
			}
		})
	}
}

// leader is the node of the controller that holds the lease, and its identity.
func (s *story) leader() (node, holder string) {
	s.Helper()
	lease, err := s.Kube.CoordinationV1().Leases(herald.Namespace).Get(s.Ctx, "metallb-controller", metav1.GetOptions{})
	s.Must(err)
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", ""
	}
	holder = *lease.Spec.HolderIdentity
	name, _, _ := strings.Cut(holder, "_")
	pod, err := s.Kube.CoreV1().Pods(herald.Namespace).Get(s.Ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", holder
	}
	s.Must(err)
	return pod.Spec.NodeName, holder
}

// comeAndGo deletes and creates Services, of which there are never more than
// many, until stop, which returns the names of those that are there.
func (s *story) comeAndGo(many int) (stop func() (names []string, err error)) {
	ctx, cancel := context.WithCancel(s.Ctx)
	type result struct {
		names []string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		there := map[string]bool{}
		var r result
		for r.err == nil && ctx.Err() == nil {
			name := fmt.Sprintf("comes-%d", rand.IntN(many))
			if there[name] {
				r.err = s.Kube.CoreV1().Services(s.Namespace).Delete(ctx, name, metav1.DeleteOptions{})
				delete(there, name)
				continue
			}
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}}}
			_, r.err = s.Kube.CoreV1().Services(s.Namespace).Create(ctx, svc, metav1.CreateOptions{})
			there[name] = true
		}
		// The last request may have been cut off by the end, done or not.
		if errors.Is(r.err, context.Canceled) || ctx.Err() != nil {
			r.err = nil
		}
		done <- r
	}()
	ended := false
	var last result
	stop = func() ([]string, error) {
		if !ended {
			cancel()
			last, ended = <-done, true
			services, err := s.Kube.CoreV1().Services(s.Namespace).List(s.Ctx, metav1.ListOptions{})
			last.err = errors.Join(last.err, err)
			for _, svc := range services.Items {
				if strings.HasPrefix(svc.Name, "comes-") {
					last.names = append(last.names, svc.Name)
				}
			}
		}
		return last.names, last.err
	}
	s.Cleanup(func() { cancel(); _, _ = stop() })
	return stop
}
