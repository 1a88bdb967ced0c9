package report

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
)

func (k *kube) createBGPStatus(ctx context.Context, s *v1beta1.ServiceBGPStatus) error {
	return k.client.Create(ctx, s.DeepCopy())
}

func (k *kube) setBGPStatus(ctx context.Context, name string, s v1beta1.ServiceBGPStatusStatus) (string, error) {
	return k.patchStatus(ctx, v1beta1.GroupVersion.WithKind("ServiceBGPStatus"), k.namespace, name,
		types.MergePatchType, map[string]any{"status": s})
}

func (k *kube) deleteBGPStatus(ctx context.Context, name string, uid types.UID) error {
	return k.client.Delete(ctx, &v1beta1.ServiceBGPStatus{ObjectMeta: k.named(name)}, only(uid)...)
}

func (k *kube) createSession(ctx context.Context, s *v1alpha1.BGPSessionStatus) error {
	return k.client.Create(ctx, s.DeepCopy())
}

// setSession puts the whole status in place of the old one: what is absent now
// must go.
func (k *kube) setSession(ctx context.Context, name string, s v1alpha1.BGPSessionStatusStatus) (string, error) {
	return k.patch(ctx, v1alpha1.GroupVersion.WithKind("BGPSessionStatus"), k.namespace, name, types.JSONPatchType,
		[]map[string]any{{"op": "add", "path": "/status", "value": s}})
}

func (k *kube) deleteSession(ctx context.Context, name string, uid types.UID) error {
	return k.client.Delete(ctx, &v1alpha1.BGPSessionStatus{ObjectMeta: k.named(name)}, only(uid)...)
}

func (k *kube) peerEvent(ctx context.Context, peer string, n note) error {
	obj, gvk, err := k.object(ctx, config.Problem{Kind: "BGPPeer", Namespace: k.namespace, Name: peer})
	if err != nil {
		return err
	}
	apiVersion, kind := gvk.ToAPIVersionAndKind()
	about := corev1.ObjectReference{APIVersion: apiVersion, Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID()}
	now := time.Now()
	e := k.event(about, n.reason, "Peer", n.text, now)
	if n.warning {
		e.Type = corev1.EventTypeWarning
	}
	// Every node tells of the same peer.
	e.Name = fmt.Sprintf("%s.%s.%x", shorten(peer, maxEventName), digest(k.node), now.UnixNano())
	return k.client.Create(ctx, e)
}

// maxEventName leaves room for what makes an event's name unique.
const maxEventName = 200

// allSessions asks the API server: the cache holds this node's only.
func (k *kube) allSessions(ctx context.Context) ([]metav1.ObjectMeta, error) {
	list := metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("BGPSessionStatusList"))
	if err := k.reader.List(ctx, &list, client.InNamespace(k.namespace)); err != nil {
		return nil, fmt.Errorf("list the BGPSessionStatus objects: %w", err)
	}
	all := make([]metav1.ObjectMeta, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, list.Items[i].ObjectMeta)
	}
	return all, nil
}

func (k *kube) nodes(ctx context.Context) ([]string, error) {
	var list corev1.NodeList
	if err := k.client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	if len(list.Items) == 0 {
		return nil, errors.New("no node is known, not even this one")
	}
	all := make([]string, 0, len(list.Items))
	for i := range list.Items {
		all = append(all, list.Items[i].Name)
	}
	return all, nil
}
