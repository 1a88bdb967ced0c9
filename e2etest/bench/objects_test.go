//go:build lab

package bench

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
)

const (
	// many is the number of Services in the figures' names.
	many = 5000
	// apps is the namespace of the Services.
	apps = "apps"
	// pool holds them all, and lies in no prefix of the lab's machines.
	pool = "10.64.0.0/16"
	// hands is how many requests create objects at once.
	hands = 8
)

// makeServices creates the Services and, if asked to, an endpoint for each on one
// of the nodes in turn. They have no node ports: there are fewer of those.
func (w *world) makeServices(endpoints bool) {
	w.Helper()
	start := time.Now()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: apps}}
	_, err := w.kube.CoreV1().Namespaces().Create(w.ctx, ns, metav1.CreateOptions{})
	w.must(err)
	group, ctx := errgroup.WithContext(w.ctx)
	var next atomic.Int64
	for range hands {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= many {
					return nil
				}
				if err := w.makeService(ctx, i, endpoints); err != nil {
					return err
				}
			}
		})
	}
	w.must(group.Wait())
	w.step("created %d Services (endpoints: %t) in %.1f s", many, endpoints, time.Since(start).Seconds())
}

func (w *world) makeService(ctx context.Context, i int, endpoints bool) error {
	name := fmt.Sprintf("many-%d", i)
	if err := createService(ctx, w.kube, name); err != nil || !endpoints {
		return err
	}
	nodes := w.State.Layout.Nodes
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: apps, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", i%len(nodes)+1, i%200+10)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true)},
			NodeName:   &nodes[i%len(nodes)].Name,
		}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	_, err := w.kube.DiscoveryV1().EndpointSlices(apps).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

func createService(ctx context.Context, kube kubernetes.Interface, name string) error {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: apps},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			AllocateLoadBalancerNodePorts: ptr.To(false),
			Ports:                         []corev1.ServicePort{{Port: 80}},
		},
	}
	_, err := kube.CoreV1().Services(apps).Create(ctx, svc, metav1.CreateOptions{})
	return err
}

// makePool creates the pool from which all are served.
func (w *world) makePool() {
	w.Helper()
	w.must(w.Apply(w.ctx, `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: main, namespace: metallb-system}
spec: {addresses: [`+pool+`]}
`))
}

// advertise announces them all from every node.
func (w *world) advertise() {
	w.Helper()
	w.must(w.Apply(w.ctx, `
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: main, namespace: metallb-system}
`))
}

// The conditions that Herald writes on Services.
const (
	assigned  = "heraldlb.io/Assigned"
	announced = "heraldlb.io/Announced"
)

func condition(svc *corev1.Service, kind string) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if c := &svc.Status.Conditions[i]; c.Type == kind {
			return c
		}
	}
	return nil
}

func address(svc *corev1.Service) string {
	var list []string
	for _, i := range svc.Status.LoadBalancer.Ingress {
		list = append(list, i.IP)
	}
	return strings.Join(list, ",")
}

// watchServices calls seen with every state of every Service until the benchmark
// ends, from one goroutine, beginning with what is there.
func (w *world) watchServices(seen func(*corev1.Service)) {
	w.Helper()
	client := w.kube.CoreV1().Services(apps)
	watch(w, &cache.ListWatch{ListWithContextFunc: listFunc(client.List), WatchFuncWithContext: client.Watch}, &corev1.Service{}, seen)
}
