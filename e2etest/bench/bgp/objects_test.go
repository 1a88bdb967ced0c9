//go:build lab

package bgp

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/heraldlb/herald/e2etest/herald"
)

const (
	// apps is the namespace of the Services.
	apps = "apps"
	// hands is how many requests create objects at once.
	hands = 8
)

// pool holds the addresses of all Services, and lies in no prefix of the machines.
var pool = netip.MustParsePrefix("10.64.0.0/16")

// name and addressOf are those of the i-th Service.
func name(i int) string { return fmt.Sprintf("svc-%d", i) }

func addressOf(i int) netip.Addr {
	a := pool.Addr().As4()
	a[2], a[3] = byte(i>>8), byte(i)
	return netip.AddrFrom4(a)
}

func prefixOf(i int) netip.Prefix { return netip.PrefixFrom(addressOf(i), 32) }

// each calls f for the numbers from first up to end, several at once.
func (r *rig) each(first, end int, f func(ctx context.Context, i int) error) {
	r.Helper()
	r.must(each(r.ctx, first, end, f))
}

func each(ctx context.Context, first, end int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	next.Store(int64(first))
	for range hands {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= end {
					return nil
				}
				if err := f(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// makeServices creates the Services with these numbers, each with an endpoint on
// the node and an address in its status.
func (r *rig) makeServices(first, end int) {
	r.Helper()
	start := time.Now()
	r.each(first, end, r.makeServed)
	r.step("created %d Services in %.1f s", end-first, time.Since(start).Seconds())
}

// makeServed creates a Service with its endpoint and its address.
func (r *rig) makeServed(ctx context.Context, i int) error {
	if err := r.makeService(ctx, i); err != nil {
		return err
	}
	return r.serve(ctx, i, addressOf(i).String())
}

// makeService creates a Service without an address.
func (r *rig) makeService(ctx context.Context, i int) error {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name(i), Namespace: apps},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			AllocateLoadBalancerNodePorts: ptr.To(false),
			Ports:                         []corev1.ServicePort{{Port: 80}},
		},
	}
	if _, err := r.kube.CoreV1().Services(apps).Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create Service %s: %w", svc.Name, err)
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name(i), Namespace: apps, Labels: map[string]string{discoveryv1.LabelServiceName: name(i)}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", i>>8, i&255)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true)},
			NodeName:   ptr.To(nodeName),
		}},
		Ports: []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To(int32(8080)), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}
	if _, err := r.kube.DiscoveryV1().EndpointSlices(apps).Create(ctx, slice, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create EndpointSlice %s: %w", slice.Name, err)
	}
	return nil
}

// serve writes the status of a Service, as the controller does; without an address
// it takes the Service's away.
func (r *rig) serve(ctx context.Context, i int, addr string) error {
	ingress := "[]"
	if addr != "" {
		ingress = fmt.Sprintf(`[{"ip":%q}]`, addr)
	}
	_, err := r.kube.CoreV1().Services(apps).Patch(ctx, name(i), types.MergePatchType,
		[]byte(`{"status":{"loadBalancer":{"ingress":`+ingress+`}}}`), metav1.PatchOptions{}, "status")
	return err
}

// deleteServices deletes the Services with these numbers.
func (r *rig) deleteServices(first, end int) {
	r.Helper()
	r.each(first, end, func(ctx context.Context, i int) error {
		err := r.kube.CoreV1().Services(apps).Delete(ctx, name(i), metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		err = r.kube.DiscoveryV1().EndpointSlices(apps).Delete(ctx, name(i), metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// kinds are those of Herald that a benchmark may leave.
const kinds = "bgppeers,bgpadvertisements,bfdprofiles,ipaddresspools,servicebgpstatuses,bgpsessionstatuses"

// clearObjects removes what the benchmark before left.
func (r *rig) clearObjects() {
	r.Helper()
	r.must(r.kubectl(r.ctx, "", "delete", kinds, "-n", herald.Namespace, "--all", "--wait=false"))
	list, err := r.kube.CoreV1().Services(apps).List(r.ctx, metav1.ListOptions{})
	r.must(err)
	slices, err := r.kube.DiscoveryV1().EndpointSlices(apps).List(r.ctx, metav1.ListOptions{})
	r.must(err)
	r.each(0, len(list.Items), func(ctx context.Context, i int) error {
		return r.kube.CoreV1().Services(apps).Delete(ctx, list.Items[i].Name, metav1.DeleteOptions{})
	})
	r.each(0, len(slices.Items), func(ctx context.Context, i int) error {
		return r.kube.DiscoveryV1().EndpointSlices(apps).Delete(ctx, slices.Items[i].Name, metav1.DeleteOptions{})
	})
	r.must(r.kube.CoreV1().Events(apps).DeleteCollection(r.ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
}

// object is one of Herald's.
func object(version, kind, name string, spec map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": "metallb.io/" + version, "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": herald.Namespace}, "spec": spec,
	}
}

// advertise creates the pool and tells every peer of it.
func (r *rig) advertise() {
	r.Helper()
	r.apply(
		object("v1beta1", "IPAddressPool", "main", map[string]any{"addresses": []string{pool.String()}}),
		object("v1beta1", "BGPAdvertisement", "main", map[string]any{}),
	)
}

// profile creates a BFDProfile.
func (r *rig) profile(name string, interval time.Duration) {
	r.Helper()
	r.apply(object("v1beta1", "BFDProfile", name, map[string]any{
		"receiveInterval": interval.Milliseconds(), "transmitInterval": interval.Milliseconds(), "detectMultiplier": 3,
	}))
}

// peers creates a BGPPeer for each router.
func (r *rig) peers(routers []*router, adjust ...func(spec map[string]any)) {
	r.Helper()
	var all []map[string]any
	for _, n := range routers {
		spec := map[string]any{"myASN": nodeASN, "peerASN": routerASN, "peerAddress": n.addr.Addr().String()}
		for _, f := range adjust {
			f(spec)
		}
		all = append(all, object("v1beta2", "BGPPeer", n.name, spec))
	}
	r.apply(all...)
}

// dropPeers deletes the BGPPeers of routers.
func (r *rig) dropPeers(routers []*router) {
	r.Helper()
	args := []string{"delete", "bgppeers", "-n", herald.Namespace, "--wait=false"}
	for _, n := range routers {
		args = append(args, n.name)
	}
	r.must(r.kubectl(r.ctx, "", args...))
}

func with(key string, value any) func(map[string]any) {
	return func(spec map[string]any) { spec[key] = value }
}
