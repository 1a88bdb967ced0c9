package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/internal/status"
)

const (
	// stateName is the name of the controller's ConfigurationState.
	stateName = "controller"
	// labelComponent tells the ConfigurationStates of the components apart.
	labelComponent = "metallb.io/component-type"
	// pageSize is how many Services a live read asks for at once.
	pageSize = 500
)

// kube is the cluster through controller-runtime.
type kube struct {
	client client.Client
	// live reads from the API server, past the cache.
	live      client.Reader
	namespace string
	// deployment is the name of the controller's own, "" if it is not known.
	deployment string
	watches    []toolscache.ResourceEventHandlerRegistration
}

// cacheOptions keep in memory what the controller reads of Services and
// namespaces and nothing else of them, and of the ConfigurationStates its own.
func cacheOptions() map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&corev1.Service{}: {
			Namespaces:            map[string]cache.Config{cache.AllNamespaces: {}},
			Transform:             slimService,
			UnsafeDisableDeepCopy: ptr.To(true),
		},
		&corev1.Namespace{}: {Transform: slimNamespace, UnsafeDisableDeepCopy: ptr.To(true)},
		&v1beta1.ConfigurationState{}: {
			Field: fields.OneTermEqualSelector("metadata.name", stateName),
		},
	}
}

// slimService keeps what service.Parse and outcome.go read.
func slimService(obj any) (any, error) {
	svc, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Service{}
	slim.ObjectMeta = slimMeta(&svc.ObjectMeta)
	slim.Spec.Type = svc.Spec.Type
	for key, value := range svc.Annotations {
		if strings.HasPrefix(key, "metallb.") {
			if slim.Annotations == nil {
				slim.Annotations = map[string]string{}
			}
			slim.Annotations[key] = value
		}
	}
	if c := status.Find(svc.Status.Conditions, status.Assigned); c != nil {
		slim.Status.Conditions = []metav1.Condition{*c}
	}
	slim.Status.LoadBalancer = svc.Status.LoadBalancer
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return slim, nil
	}
	slim.Labels = svc.Labels
	slim.Spec = corev1.ServiceSpec{
		Type:                  svc.Spec.Type,
		ClusterIP:             svc.Spec.ClusterIP,
		ClusterIPs:            svc.Spec.ClusterIPs,
		IPFamilies:            svc.Spec.IPFamilies,
		IPFamilyPolicy:        svc.Spec.IPFamilyPolicy,
		LoadBalancerIP:        svc.Spec.LoadBalancerIP,
		LoadBalancerClass:     svc.Spec.LoadBalancerClass,
		ExternalTrafficPolicy: svc.Spec.ExternalTrafficPolicy,
	}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		slim.Spec.Selector = svc.Spec.Selector
	}
	slim.Spec.Ports = make([]corev1.ServicePort, len(svc.Spec.Ports))
	for i, p := range svc.Spec.Ports {
		slim.Spec.Ports[i] = corev1.ServicePort{Protocol: p.Protocol, Port: p.Port}
	}
	return slim, nil
}

func slimNamespace(obj any) (any, error) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Namespace{ObjectMeta: slimMeta(&ns.ObjectMeta)}
	slim.Labels = ns.Labels
	return slim, nil
}

func slimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// watch has every change noted in the inbox. Call it before the cache starts.
func (k *kube) watch(ctx context.Context, informers cache.Informers, to *inbox) error {
	onConfig := func(old, now client.Object) {
		if old != nil && now != nil && old.GetGeneration() == now.GetGeneration() && maps.Equal(old.GetLabels(), now.GetLabels()) {
			to.reports()
			return
		}
		to.config()
	}
	watches := []struct {
		kind client.Object
		seen func(old, now client.Object)
	}{
		{&corev1.Service{}, func(old, now client.Object) {
			o := either(old, now)
			key := service.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
			if now == nil {
				to.deletedService(key, o.GetResourceVersion())
				return
			}
			to.service(key)
		}},
		{&corev1.Namespace{}, func(old, now client.Object) {
			if old == nil || now == nil || !maps.Equal(old.GetLabels(), now.GetLabels()) {
				to.namespace(either(old, now).GetName())
			}
		}},
		{&v1beta1.IPAddressPool{}, onConfig},
		{&v1beta1.L2Advertisement{}, onConfig},
		{&v1beta1.BGPAdvertisement{}, onConfig},
		{&v1beta1.BFDProfile{}, onConfig},
		{&v1beta1.Community{}, onConfig},
		{&v1beta1.ConfigurationState{}, func(client.Object, client.Object) { to.reports() }},
	}
	for _, w := range watches {
		informer, err := informers.GetInformer(ctx, w.kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.kind, err)
		}
		registration, err := informer.AddEventHandler(handler(w.seen))
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.kind, err)
		}
		k.watches = append(k.watches, registration)
	}
	return nil
}

// handler calls seen with the state before and after; nil is none.
func handler(seen func(old, now client.Object)) toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if o, ok := obj.(client.Object); ok {
				seen(nil, o)
			}
		},
		UpdateFunc: func(old, now any) {
			o, ok1 := old.(client.Object)
			n, ok2 := now.(client.Object)
			if ok1 && ok2 {
				seen(o, n)
			}
		},
		DeleteFunc: func(obj any) {
			missed, wasMissed := obj.(toolscache.DeletedFinalStateUnknown)
			if wasMissed {
				obj = missed.Obj
			}
			o, ok := obj.(client.Object)
			if !ok {
				return
			}
			if wasMissed {
				// Its version is one from before the deletion.
				o = o.DeepCopyObject().(client.Object)
				o.SetResourceVersion("")
			}
			seen(o, nil)
		},
	}
}

func either(old, now client.Object) client.Object {
	if now != nil {
		return now
	}
	return old
}

func (k *kube) synced(ctx context.Context) error {
	all := make([]toolscache.InformerSynced, len(k.watches))
	for i, w := range k.watches {
		all[i] = w.HasSynced
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), all...) {
		return fmt.Errorf("wait for the cache: %w", context.Cause(ctx))
	}
	return nil
}

func (k *kube) liveServices(ctx context.Context, each func(*corev1.Service)) error {
	var list corev1.ServiceList
	for {
		if err := k.live.List(ctx, &list, client.Limit(pageSize), client.Continue(list.Continue)); err != nil {
			return fmt.Errorf("list Services: %w", err)
		}
		for i := range list.Items {
			slim, err := slimService(&list.Items[i])
			if err != nil {
				return err
			}
			each(slim.(*corev1.Service))
		}
		if list.Continue == "" {
			return nil
		}
		list = corev1.ServiceList{ListMeta: metav1.ListMeta{Continue: list.Continue}}
	}
}

// cached reads obj from the cache and reports whether it is there. The cache
// knows no other failure once it runs.
func (k *kube) cached(namespace, name string, obj client.Object) bool {
	return k.client.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, obj) == nil
}

func (k *kube) service(key service.Key) *corev1.Service {
	svc := &corev1.Service{}
	if !k.cached(key.Namespace, key.Name, svc) {
		return nil
	}
	return svc
}

func (k *kube) pool(name string) *v1beta1.IPAddressPool {
	pool := &v1beta1.IPAddressPool{}
	if !k.cached(k.namespace, name, pool) {
		return nil
	}
	return pool
}

func (k *kube) state() *v1beta1.ConfigurationState {
	state := &v1beta1.ConfigurationState{}
	if !k.cached(k.namespace, stateName, state) {
		return nil
	}
	return state
}

func (k *kube) namespaceLabels(name string) (labels.Set, bool) {
	ns := &corev1.Namespace{}
	if !k.cached("", name, ns) {
		return nil, false
	}
	return ns.Labels, true
}

func (k *kube) namespaces() (map[string]labels.Set, error) {
	var list corev1.NamespaceList
	if err := k.client.List(context.Background(), &list); err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	sets := make(map[string]labels.Set, len(list.Items))
	for i := range list.Items {
		sets[list.Items[i].Name] = list.Items[i].Labels
	}
	return sets, nil
}

// objects reads the configuration, but for the BGP peers: which of them
// contradict each other depends on the node, and its speaker says so.
func (k *kube) objects() (config.Objects, error) {
	var pools v1beta1.IPAddressPoolList
	var l2 v1beta1.L2AdvertisementList
	var bgp v1beta1.BGPAdvertisementList
	var bfd v1beta1.BFDProfileList
	var communities v1beta1.CommunityList
	for _, list := range []client.ObjectList{&pools, &l2, &bgp, &bfd, &communities} {
		if err := k.client.List(context.Background(), list, client.InNamespace(k.namespace)); err != nil {
			return config.Objects{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	return config.Objects{
		Pools: pools.Items, L2Advertisements: l2.Items, BGPAdvertisements: bgp.Items,
		BFDProfiles: bfd.Items, Communities: communities.Items,
	}, nil
}

func (k *kube) patchService(ctx context.Context, key service.Key, patch []byte) (string, error) {
	return k.patchStatus(ctx, corev1.SchemeGroupVersion.WithKind("Service"), key.Namespace, key.Name, types.StrategicMergePatchType, patch)
}

func (k *kube) patchPool(ctx context.Context, name string, s v1beta1.IPAddressPoolStatus) (string, error) {
	return k.mergeStatus(ctx, "IPAddressPool", name, s)
}

func (k *kube) patchState(ctx context.Context, s v1beta1.ConfigurationStateStatus) (string, error) {
	// A field that is left out of a merge patch stays as it is.
	return k.mergeStatus(ctx, "ConfigurationState", stateName, struct {
		v1beta1.ConfigurationStateStatus `json:",inline"`
		ErrorSummary                     string `json:"errorSummary"`
	}{s, s.ErrorSummary})
}

func (k *kube) mergeStatus(ctx context.Context, kind, name string, s any) (string, error) {
	data, err := json.Marshal(map[string]any{"status": s})
	if err != nil {
		return "", fmt.Errorf("encode the status of %s %s: %w", kind, name, err)
	}
	return k.patchStatus(ctx, v1beta1.GroupVersion.WithKind(kind), k.namespace, name, types.MergePatchType, data)
}

// patchStatus patches the status of any object. The answer is asked for without
// spec and status: of a large object that is most of the work.
func (k *kube) patchStatus(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string, kind types.PatchType, data []byte) (string, error) {
	obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	obj.SetGroupVersionKind(gvk)
	if err := k.client.Status().Patch(ctx, obj, client.RawPatch(kind, data), client.FieldOwner(eventSource)); err != nil {
		return "", fmt.Errorf("patch the status of %s %s/%s: %w", gvk.Kind, namespace, name, err)
	}
	return obj.ResourceVersion, nil
}

func (k *kube) createState(ctx context.Context) error {
	owners, err := k.owner(ctx)
	if err != nil {
		return err
	}
	err = k.client.Create(ctx, &v1beta1.ConfigurationState{ObjectMeta: metav1.ObjectMeta{
		Namespace: k.namespace, Name: stateName,
		Labels:          map[string]string{labelComponent: "controller"},
		OwnerReferences: owners,
	}})
	if err != nil {
		return fmt.Errorf("create ConfigurationState %s: %w", stateName, err)
	}
	return nil
}

// owner refers to the controller's Deployment, with which everything goes that
// the controller made. There is none where the controller runs otherwise.
func (k *kube) owner(ctx context.Context) ([]metav1.OwnerReference, error) {
	if k.deployment == "" {
		return nil, nil
	}
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"})
	if err := k.live.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: k.deployment}, meta); err != nil {
		return nil, fmt.Errorf("read Deployment %s, the owner of what the controller makes: %w", k.deployment, err)
	}
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: meta.Name, UID: meta.UID}}, nil
}

func (k *kube) createEvent(ctx context.Context, e *eventsv1.Event) error {
	return k.client.Create(ctx, e)
}
