package main

import (
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/report"
)

// What the informers keep of each object. The speaker only ever patches single
// fields of these objects, so nothing can be lost by it.

// served selects the slices of Services that can have an address: those with a
// name, and not headless.
func served() labels.Selector {
	all := labels.NewSelector()
	for key, op := range map[string]selection.Operator{
		discoveryv1.LabelServiceName: selection.Exists,
		corev1.IsHeadlessService:     selection.DoesNotExist,
	} {
		r, err := labels.NewRequirement(key, op, nil)
		if err != nil {
			panic("speaker: a constant label selector is wrong: " + err.Error())
		}
		all = all.Add(*r)
	}
	return all
}

// slimMeta keeps what names an object and its version.
func slimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: shared(m.Namespace), Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Generation: m.Generation, CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// slimServices returns the function that keeps of a Service what decides on
// announcing, its address and the condition that the report compares.
func slimServices() func(any) (any, error) {
	// Nearly all Services have the controller's annotation and no other of ours.
	var mu sync.Mutex
	fromPool := map[string]map[string]string{}
	return func(obj any) (any, error) {
		s, ok := obj.(*corev1.Service)
		if !ok {
			return obj, nil
		}
		slim := &corev1.Service{ObjectMeta: slimMeta(s.ObjectMeta)}
		slim.Labels = s.Labels
		slim.Annotations = ours(s.Annotations)
		if pool, ok := slim.Annotations[service.AnnotationFromPool]; ok && len(slim.Annotations) == 1 {
			mu.Lock()
			if fromPool[pool] == nil {
				fromPool[pool] = slim.Annotations
			}
			slim.Annotations = fromPool[pool]
			mu.Unlock()
		}
		slim.Spec.Type = s.Spec.Type
		slim.Spec.LoadBalancerClass = s.Spec.LoadBalancerClass
		slim.Spec.ExternalTrafficPolicy = s.Spec.ExternalTrafficPolicy
		slim.Status.LoadBalancer = s.Status.LoadBalancer
		for _, c := range s.Status.Conditions {
			if c.Type == report.ConditionAnnounced {
				c.Type, c.Reason, c.Message = shared(c.Type), shared(c.Reason), shared(c.Message)
				slim.Status.Conditions = []metav1.Condition{c}
			}
		}
		return slim, nil
	}
}

// ours returns the annotations that Herald may read.
func ours(all map[string]string) (kept map[string]string) {
	for key, value := range all {
		if strings.HasPrefix(key, "metallb.") || strings.HasPrefix(key, "heraldlb.io/") {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[shared(key)] = value
		}
	}
	return kept
}

// shared returns the one copy of a text that many objects hold.
func shared(text string) string { return unique.Make(text).Value() }

// slimNode keeps the labels and whether the node and its network work.
func slimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Node{ObjectMeta: slimMeta(n.ObjectMeta)}
	slim.Labels = n.Labels
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable || c.Type == corev1.NodeReady {
			slim.Status.Conditions = append(slim.Status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
		}
	}
	slim.Spec.Unschedulable = n.Spec.Unschedulable
	slim.Spec.Taints = slices.DeleteFunc(slices.Clone(n.Spec.Taints), func(t corev1.Taint) bool { return t.Key != corev1.TaintNodeOutOfService })
	slim.Status.Addresses = slices.DeleteFunc(slices.Clone(n.Status.Addresses), func(a corev1.NodeAddress) bool { return a.Type != corev1.NodeInternalIP })
	return slim, nil
}

// slimSecret keeps the type of a Secret and the one key that sessions use, of
// that type only: what else is secret in the namespace stays out of memory.
func slimSecret(obj any) (any, error) {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Secret{ObjectMeta: slimMeta(s.ObjectMeta), Type: s.Type}
	if password, ok := s.Data[corev1.BasicAuthPasswordKey]; ok && s.Type == corev1.SecretTypeBasicAuth {
		slim.Data = map[string][]byte{corev1.BasicAuthPasswordKey: password}
	}
	return slim, nil
}

// slimPod keeps where a speaker runs, what its address is and whether it serves.
func slimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{ObjectMeta: slimMeta(p.ObjectMeta)}
	slim.Labels = p.Labels
	slim.Spec.NodeName = p.Spec.NodeName
	slim.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			slim.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return slim, nil
}
