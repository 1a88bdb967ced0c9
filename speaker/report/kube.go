package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

// Field owners of server-side apply.
const (
	ownerAnnounced = "heraldlb-speaker"
	ownerConfig    = "configReconciler"
)

// eventSource is MetalLB's name for who tells.
const eventSource = "metallb-speaker"

// CacheOptions are how the manager caches what only this package reads: of the
// ConfigurationStates and BGPSessionStatus objects those of this node, since
// otherwise each speaker would hear of every other's; of the ServiceL2Status and ServiceBGPStatus objects, of
// which there is one for each Service that anybody announces, what is compared.
func CacheOptions(node string) map[client.Object]cache.ByObject {
	return map[client.Object]cache.ByObject{
		&v1beta1.ConfigurationState{}: {Field: fields.OneTermEqualSelector("metadata.name", stateName(node))},
		&v1beta1.ServiceL2Status{}:    {Transform: slimStatuses()},
		&v1beta1.ServiceBGPStatus{}:   {Transform: slimBGPStatuses()},
		&v1alpha1.BGPSessionStatus{}:  {Label: labels.SelectorFromSet(labels.Set{labelNode: labelValue(node)})},
	}
}

// kube is the cluster through controller-runtime.
type kube struct {
	client          client.Client
	reader          client.Reader
	cache           cache.Informers
	node, namespace string
}

func (k *kube) watch(ctx context.Context, to handlers) error {
	watches := []struct {
		kind client.Object
		seen func(obj any, gone bool)
	}{
		{&corev1.Service{}, func(obj any, gone bool) {
			if svc, ok := obj.(*corev1.Service); ok && !gone {
				to.serviceSeen(svc)
			}
		}},
		{&v1beta1.ServiceL2Status{}, func(obj any, gone bool) {
			if s, ok := obj.(*v1beta1.ServiceL2Status); ok {
				to.statusSeen(s, gone)
			}
		}},
		{&v1beta1.ServiceBGPStatus{}, func(obj any, gone bool) {
			if s, ok := obj.(*v1beta1.ServiceBGPStatus); ok {
				to.bgpStatusSeen(s, gone)
			}
		}},
		{&v1alpha1.BGPSessionStatus{}, func(obj any, gone bool) {
			if s, ok := obj.(*v1alpha1.BGPSessionStatus); ok {
				to.sessionSeen(s, gone)
			}
		}},
		{&v1beta1.ConfigurationState{}, func(obj any, gone bool) {
			if s, ok := obj.(*v1beta1.ConfigurationState); ok {
				to.stateSeen(s, gone)
			}
		}},
	}
	var synced []toolscache.InformerSynced
	for _, w := range watches {
		informer, err := k.cache.GetInformer(ctx, w.kind)
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.kind, err)
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { w.seen(obj, false) },
			UpdateFunc: func(_, obj any) { w.seen(obj, false) },
			DeleteFunc: func(obj any) {
				if unknown, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
					obj = unknown.Obj
				}
				w.seen(obj, true)
			},
		})
		if err != nil {
			return fmt.Errorf("watch %T: %w", w.kind, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return ctx.Err()
	}
	return nil
}

// owner is the DaemonSet of the pod, so that what is told outlives a restart of
// the pod and goes when Herald is uninstalled. A pod without one owns it itself.
func (k *kube) owner(ctx context.Context, name string) (metav1.OwnerReference, error) {
	pod := &corev1.Pod{}
	if err := k.reader.Get(ctx, client.ObjectKey{Namespace: k.namespace, Name: name}, pod); err != nil {
		return metav1.OwnerReference{}, fmt.Errorf("read pod %s/%s: %w", k.namespace, name, err)
	}
	if c := metav1.GetControllerOf(pod); c != nil {
		return metav1.OwnerReference{APIVersion: c.APIVersion, Kind: c.Kind, Name: c.Name, UID: c.UID}, nil
	}
	return metav1.OwnerReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: pod.UID}, nil
}

func (k *kube) service(ctx context.Context, key service.Key) (*corev1.Service, error) {
	svc := &corev1.Service{}
	if err := k.client.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, svc); err != nil {
		return nil, err // the caller tells a missing Service by it
	}
	return svc, nil
}

func (k *kube) createStatus(ctx context.Context, s *v1beta1.ServiceL2Status) error {
	return k.client.Create(ctx, s.DeepCopy())
}

func (k *kube) setStatus(ctx context.Context, name string, s v1beta1.ServiceL2StatusStatus) (string, error) {
	// No interfaces must be written too, or the merge would keep the old ones.
	type status struct {
		v1beta1.ServiceL2StatusStatus
		Interfaces []v1beta1.InterfaceInfo `json:"interfaces"`
	}
	return k.patchStatus(ctx, v1beta1.GroupVersion.WithKind("ServiceL2Status"), k.namespace, name,
		types.MergePatchType, map[string]any{"status": status{s, s.Interfaces}})
}

func (k *kube) deleteStatus(ctx context.Context, name string, uid types.UID) error {
	return k.client.Delete(ctx, &v1beta1.ServiceL2Status{ObjectMeta: k.named(name)}, only(uid)...)
}

// named is the metadata of an object in our namespace.
func (k *kube) named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: k.namespace, Name: name}
}

// only restricts a deletion to the object that has the UID, if there is one.
func only(uid types.UID) []client.DeleteOption {
	if uid == "" {
		return nil
	}
	return []client.DeleteOption{client.Preconditions{UID: &uid}}
}

func (k *kube) setCondition(ctx context.Context, key service.Key, uid types.UID, c *metav1.Condition) (string, error) {
	status := map[string]any{}
	if c != nil {
		status["conditions"] = []*metav1.Condition{c}
	}
	return k.patchStatus(ctx, corev1.SchemeGroupVersion.WithKind("Service"), key.Namespace, key.Name,
		types.ApplyPatchType, map[string]any{
			// The UID keeps the condition off another Service of that name.
			"metadata": map[string]any{"uid": uid},
			"status":   status,
		}, client.FieldOwner(ownerAnnounced), client.ForceOwnership)
}

func (k *kube) createState(ctx context.Context, s *v1beta1.ConfigurationState) error {
	return k.client.Create(ctx, s.DeepCopy())
}

func (k *kube) setState(ctx context.Context, name string, s v1beta1.ConfigurationStateStatus) (string, error) {
	return k.patchStatus(ctx, v1beta1.GroupVersion.WithKind("ConfigurationState"), k.namespace, name,
		types.ApplyPatchType, map[string]any{"status": s}, client.FieldOwner(ownerConfig), client.ForceOwnership)
}

// patchStatus patches the status of one object and returns its new version.
func (k *kube) patchStatus(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string, kind types.PatchType, body map[string]any, opts ...client.SubResourcePatchOption) (string, error) {
	if kind == types.ApplyPatchType {
		body["apiVersion"], body["kind"] = gvk.GroupVersion().String(), gvk.Kind
		metadata, _ := body["metadata"].(map[string]any)
		if metadata == nil {
			metadata = map[string]any{}
		}
		metadata["name"], metadata["namespace"] = name, namespace
		body["metadata"] = metadata
	}
	return k.patch(ctx, gvk, namespace, name, kind, body, opts...)
}

// patch sends a patch of the status as it is. Only metadata is asked back.
func (k *kube) patch(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string, kind types.PatchType, body any, opts ...client.SubResourcePatchOption) (string, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return "", fmt.Errorf("encode the status of %s: %w", name, err)
	}
	obj := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	obj.SetGroupVersionKind(gvk)
	if err := k.client.Status().Patch(ctx, obj, client.RawPatch(kind, data), opts...); err != nil {
		return "", err
	}
	return obj.ResourceVersion, nil
}

func (k *kube) serviceEvent(ctx context.Context, svc *corev1.Service, n note) error {
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID}
	now := time.Now()
	e := k.event(about, n.reason, "Announce", n.text, now)
	if n.warning {
		e.Type = corev1.EventTypeWarning
	}
	e.Name = fmt.Sprintf("%s.%x", svc.Name, now.UnixNano())
	return k.client.Create(ctx, e)
}

// problemEvent writes an event whose name follows from what it says, so that
// another speaker that tells the same, or this one after a restart, adds none.
func (k *kube) problemEvent(ctx context.Context, p config.Problem) error {
	obj, gvk, err := k.object(ctx, p)
	if err != nil {
		return err
	}
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	about := corev1.ObjectReference{APIVersion: apiVersion, Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID()}
	e := k.event(about, reasonConfigError, "Compile", sentence(p), time.Now())
	if p.Severity == config.Error {
		e.Type = corev1.EventTypeWarning
	} else {
		e.Reason = "ConfigurationWarning"
	}
	e.Name = fmt.Sprintf("%s.%s", obj.GetName(), digest(fmt.Sprint(obj.GetUID(), obj.GetGeneration(), e.Note)))
	return k.client.Create(ctx, e)
}

// errNoKind is for a Problem about a kind that this package does not know.
var errNoKind = errors.New("unknown kind")

// object reads the object that a Problem is about.
func (k *kube) object(ctx context.Context, p config.Problem) (client.Object, schema.GroupVersionKind, error) {
	kinds := map[string]client.Object{
		"IPAddressPool":    &v1beta1.IPAddressPool{},
		"L2Advertisement":  &v1beta1.L2Advertisement{},
		"BGPAdvertisement": &v1beta1.BGPAdvertisement{},
		"BFDProfile":       &v1beta1.BFDProfile{},
		"Community":        &v1beta1.Community{},
		"BGPPeer":          &v1beta2.BGPPeer{},
	}
	obj, ok := kinds[p.Kind]
	if !ok {
		return nil, schema.GroupVersionKind{}, fmt.Errorf("%w %q", errNoKind, p.Kind)
	}
	gvk, err := k.client.GroupVersionKindFor(obj)
	if err != nil {
		return nil, gvk, fmt.Errorf("find the kind of %s: %w", p.Kind, err)
	}
	if err := k.client.Get(ctx, client.ObjectKey{Namespace: p.Namespace, Name: p.Name}, obj); err != nil {
		return nil, gvk, fmt.Errorf("read %s %s: %w", p.Kind, p.Name, err)
	}
	return obj, gvk, nil
}

// Limits of events.k8s.io/v1.
const (
	maxNote     = 1024
	maxInstance = 128
)

func (k *kube) event(about corev1.ObjectReference, reason, action, text string, now time.Time) *eventsv1.Event {
	return &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: about.Namespace},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: eventSource,
		ReportingInstance:   shorten(k.node, maxInstance),
		Action:              action,
		Reason:              reason,
		Regarding:           about,
		Note:                cut(text, maxNote),
		Type:                corev1.EventTypeNormal,
	}
}
