//go:build lab

package assignment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// Of two replicas one works. While Services come and go, with fewer addresses
// than Services, the leader changes: at no moment do two Services have one
// address (the guard looks), nobody who stays loses one, and the next leader
// serves.
func TestLeaderChangesWhileServicesComeAndGo(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *story)
	}{
		{"Killed", func(s *story) {
			node, holder := s.leader()
			s.Must(s.Kill(s.Ctx, node, "controller"))
			s.Step("killed the leader %s", holder)
			s.nextLeader(holder)
		}},
		// It wakes up and believes that it leads, with all that it was about to do.
		{"PausedAndResumed", func(s *story) {
			node, holder := s.leader()
			resume := s.Pause(node)
			s.Step("paused %s with the leader %s", node, holder)
			s.nextLeader(holder)
			before := s.restarts(holder)
			resume()
			s.Eventually(2*harness.Patience, func() error {
				if n := s.restarts(holder); n == before {
					return fmt.Errorf("%s has not noticed that it no longer leads", holder)
				}
				return nil
			})
		}},
		{"RolledOver", func(s *story) {
			_, holder := s.leader()
			_, err := s.Kubectl(s.Ctx, "-n", herald.Namespace, "rollout", "restart", "deployment/controller")
			s.Must(err)
			s.Must(herald.WaitReady(s.Ctx, s.Cluster))
			s.nextLeader(holder)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStory(t)
			s.WholeAtEnd()
			const addresses, stay = 12, 4
			s.ours("p", s.range4(1, addresses))
			h := s.history()
			for i := range stay {
				s.served(fmt.Sprintf("stays-%d", i), s.v4(i+1))
			}
			stop := s.comeAndGo(2 * addresses)
			tt.change(s)
			s.Step("the next leader is %s", second(s.leader()))
			// It works while they still come and go.
			s.served("named", s.v4(addresses), harness.At(addr(s.v4(addresses))))
			names := stop()
			// With room for all, all are served.
			s.ours("p", s.range4(1, 4*addresses))
			seen := map[netip.Addr]string{}
			for _, name := range append(names, "named") {
				a := s.WaitAddress(name)
				if other, taken := seen[a]; taken {
					t.Errorf("services %s and %s both have %s", other, name, a)
				}
				seen[a] = name
			}
			for i := range stay {
				h.was(s, fmt.Sprintf("stays-%d", i), "", s.v4(i+1))
			}
		})
	}
}

// restarts is how often the controller of an identity was started again.
func (s *story) restarts(holder string) int32 {
	s.Helper()
	name, _, _ := strings.Cut(holder, "_")
	pod, err := s.Kube.CoreV1().Pods(herald.Namespace).Get(s.Ctx, name, metav1.GetOptions{})
	s.Must(err)
	var n int32
	for _, c := range pod.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

func second(_, b string) string { return b }

// nextLeader waits until another than holder leads.
func (s *story) nextLeader(holder string) {
	s.Helper()
	s.Eventually(2*harness.Patience, func() error {
		if _, now := s.leader(); now == "" || now == holder {
			return fmt.Errorf("%q holds the lease", now)
		}
		return nil
	})
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
// many, until stop, which returns the names of those that are there then.
func (s *story) comeAndGo(many int) (stop func() (names []string)) {
	services := s.Kube.CoreV1().Services(s.Namespace)
	ctx, cancel := context.WithCancel(s.Ctx)
	done := make(chan error, 1)
	go func() { done <- churn(ctx, services, many) }()
	stop = sync.OnceValue(func() []string {
		cancel()
		if err := <-done; err != nil {
			s.Errorf("Services come and go: %v", err)
		}
		var names []string
		list, err := services.List(context.Background(), metav1.ListOptions{})
		if err != nil {
			s.Errorf("list the Services that came: %v", err)
		}
		for _, svc := range list.Items {
			if strings.HasPrefix(svc.Name, "comes-") {
				names = append(names, svc.Name)
			}
		}
		return names
	})
	s.OnEnd("delete the Services that came", func(ctx context.Context) error {
		var errs []error
		for _, name := range stop() {
			errs = append(errs, services.Delete(ctx, name, metav1.DeleteOptions{}))
		}
		return errors.Join(errs...)
	})
	return stop
}

// churn creates and deletes Services at random until ctx is done.
func churn(ctx context.Context, services typedcorev1.ServiceInterface, many int) error {
	there := map[string]bool{}
	for ctx.Err() == nil {
		name := fmt.Sprintf("comes-%d", rand.IntN(many))
		var err error
		if there[name] {
			err = services.Delete(ctx, name, metav1.DeleteOptions{})
		} else {
			svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}}}
			_, err = services.Create(ctx, svc, metav1.CreateOptions{})
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		there[name] = !there[name]
	}
	return nil
}
