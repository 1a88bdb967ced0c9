package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/fields"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/membership"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// kinds are those of the configuration.
func kinds() []client.Object {
	return []client.Object{
		&v1beta1.IPAddressPool{}, &v1beta1.L2Advertisement{}, &v1beta1.BGPAdvertisement{},
		&v1beta1.BFDProfile{}, &v1beta1.Community{}, &v1beta2.BGPPeer{},
	}
}

// cacheOptions keeps in memory what the plan reads, and no more: there may be
// many thousands of Services and endpoints, on every node of the cluster.
func cacheOptions(o options) map[client.Object]cache.ByObject {
	everywhere := map[string]cache.Config{cache.AllNamespaces: {}}
	shared := true // nobody changes what the cache hands out
	by := map[client.Object]cache.ByObject{
		&corev1.Service{}: {
			Namespaces:            everywhere,
			Field:                 fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)),
			Transform:             slimServices(),
			UnsafeDisableDeepCopy: &shared,
		},
		&discoveryv1.EndpointSlice{}: {
			Namespaces: everywhere,
			Label:      served(),
			Transform:  slimSlices(), // so it cannot be listed, only watched
		},
		&corev1.Node{}:   {Transform: slimNode},
		&corev1.Secret{}: {Transform: slimSecret},
	}
	if o.ring {
		by[&corev1.Pod{}] = cache.ByObject{Label: o.peers, Transform: slimPod}
	}
	return by
}

// watch makes the API's events into notes. Once the cache runs and has shown
// all there is, the returned function ends; the inbox then says so.
func watch(ctx context.Context, c cache.Cache, o options, in *inbox) (func(context.Context) error, error) {
	handlers := map[client.Object]toolscache.ResourceEventHandler{
		&corev1.Service{}:            handler(in.service),
		&discoveryv1.EndpointSlice{}: handler(in.slice),
		&corev1.Node{}:               handler(in.node),
		&corev1.Secret{}:             handler(func(*corev1.Secret, bool) { in.put(func(n *notes) { n.secrets = true }) }),
	}
	if o.ring {
		handlers[&corev1.Pod{}] = handler(func(*corev1.Pod, bool) { in.put(func(n *notes) { n.peers = true }) })
	}
	for _, kind := range kinds() {
		handlers[kind] = configHandler(in)
	}
	var synced []toolscache.InformerSynced
	for obj, h := range handlers {
		informer, err := c.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", obj, err)
		}
		registration, err := informer.AddEventHandler(h)
		if err != nil {
			return nil, fmt.Errorf("watch %T: %w", obj, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	return func(ctx context.Context) error {
		if awaitAll(ctx, synced) {
			in.sync()
		}
		<-ctx.Done()
		return nil
	}, nil
}

// awaitAll returns true when all have synced, false when ctx ended before.
func awaitAll(ctx context.Context, synced []toolscache.InformerSynced) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for len(synced) > 0 {
		if synced[0]() {
			synced = synced[1:]
			continue
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// handler calls note for every object that comes, changes or goes.
func handler[T any](note func(obj T, gone bool)) toolscache.ResourceEventHandlerFuncs {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(T); ok {
				note(o, false)
			}
		},
		UpdateFunc: func(_, obj any) {
			if o, ok := obj.(T); ok {
				note(o, false)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if o, ok := obj.(T); ok {
				note(o, true)
			}
		},
	}
}

// configHandler notes changes of what users write: a status is none.
func configHandler(in *inbox) toolscache.ResourceEventHandlerFuncs {
	note := func(any) { in.put(func(n *notes) { n.config = true }) }
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    note,
		DeleteFunc: note,
		UpdateFunc: func(before, after any) {
			a, okA := before.(client.Object)
			b, okB := after.(client.Object)
			if okA && okB && a.GetGeneration() == b.GetGeneration() && maps.Equal(a.GetLabels(), b.GetLabels()) {
				return
			}
			note(after)
		},
	}
}

func (b *inbox) service(s *corev1.Service, gone bool) {
	if gone {
		s = &corev1.Service{ObjectMeta: s.ObjectMeta} // of no type: none of ours
	}
	key := service.Key{Namespace: s.Namespace, Name: s.Name}
	b.put(func(n *notes) { n.services[key] = s })
}

func (b *inbox) slice(s *slice, gone bool) {
	key := s.key
	if gone {
		s = nil
	}
	b.put(func(n *notes) { n.slices[key] = s })
}

func (b *inbox) node(node *corev1.Node, gone bool) {
	if gone {
		b.put(func(n *notes) { n.nodes[node.Name] = nil })
		return
	}
	seen := nodeOf(node)
	b.put(func(n *notes) { n.nodes[node.Name] = &seen })
}

// nodeOf keeps of a Node what the plan asks for.
func nodeOf(node *corev1.Node) observed.Node {
	n := observed.Node{Name: node.Name, Labels: node.Labels}
	// The label's value has no meaning.
	_, n.Excluded = node.Labels[corev1.LabelNodeExcludeBalancers]
	for _, c := range node.Status.Conditions {
		switch c.Type {
		case corev1.NodeNetworkUnavailable:
			n.NetworkUnavailable = c.Status == corev1.ConditionTrue
		case corev1.NodeReady:
			n.NotReady = c.Status != corev1.ConditionTrue
		}
	}
	n.Leaving = node.Spec.Unschedulable
	for _, t := range node.Spec.Taints {
		n.Leaving = n.Leaving || t.Key == corev1.TaintNodeOutOfService
	}
	for _, a := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			n.Addresses = append(n.Addresses, ip.Unmap())
		}
	}
	return n
}

// caches implements store.
type caches struct{ client.Reader }

func (c caches) Objects(ctx context.Context) (config.Objects, error) {
	var (
		pools       v1beta1.IPAddressPoolList
		l2          v1beta1.L2AdvertisementList
		bgp         v1beta1.BGPAdvertisementList
		profiles    v1beta1.BFDProfileList
		communities v1beta1.CommunityList
		peers       v1beta2.BGPPeerList
	)
	for _, list := range []client.ObjectList{&pools, &l2, &bgp, &profiles, &communities, &peers} {
		if err := c.List(ctx, list); err != nil {
			return config.Objects{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	return config.Objects{
		Pools: pools.Items, L2Advertisements: l2.Items, BGPAdvertisements: bgp.Items,
		BFDProfiles: profiles.Items, Communities: communities.Items, Peers: peers.Items,
	}, nil
}

// Secrets returns the keys of the namespace, by the names of their Secrets.
func (c caches) Secrets(ctx context.Context) (plan.Secrets, error) {
	var list corev1.SecretList
	if err := c.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list the Secrets: %w", err)
	}
	all := make(plan.Secrets, len(list.Items))
	for i := range list.Items {
		s := &list.Items[i]
		all[s.Name] = plan.ReadSecret(string(s.Type), s.Data)
	}
	return all, nil
}

// Speakers returns the nodes of the speakers' pods.
func (c caches) Speakers(ctx context.Context) ([]string, error) {
	peers, err := c.peers(ctx)
	nodes := make([]string, len(peers))
	for i, p := range peers {
		nodes[i] = p.Node
	}
	return nodes, err
}

// peers lists the speakers' pods as members to call.
func (c caches) peers(ctx context.Context) ([]membership.Peer, error) {
	var pods corev1.PodList
	if err := c.List(ctx, &pods); err != nil {
		return nil, fmt.Errorf("list the speakers' pods: %w", err)
	}
	var peers []membership.Peer
	for _, p := range pods.Items {
		ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
		if p.Spec.NodeName == "" || ended {
			continue
		}
		// An address that cannot be read is one that is not there yet.
		addr, _ := netip.ParseAddr(p.Status.PodIP)
		peers = append(peers, membership.Peer{Node: p.Spec.NodeName, Addr: addr, Ready: podReady(&p)})
	}
	return peers, nil
}

// podReady is what the cluster last heard of a pod's readiness.
func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// callees returns what the ring asks for its peers. It waits for their part of
// the cache only: the ring is joined while thousands of Services still arrive.
func callees(c cache.Cache) func(context.Context) ([]membership.Peer, error) {
	return func(ctx context.Context) ([]membership.Peer, error) {
		pods, err := c.GetInformer(ctx, &corev1.Pod{}, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watch the speakers' pods: %w", err)
		}
		if !awaitAll(ctx, []toolscache.InformerSynced{pods.HasSynced}) {
			return nil, fmt.Errorf("wait for the list of the speakers' pods: %w", context.Cause(ctx))
		}
		return caches{c}.peers(ctx)
	}
}
