package main

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
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
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Generation: m.Generation, CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// slimService keeps the status, and of the rest what decides on announcing.
func slimService(obj any) (any, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Service{ObjectMeta: slimMeta(s.ObjectMeta), Status: s.Status}
	slim.Labels = s.Labels
	for key, value := range s.Annotations {
		if strings.HasPrefix(key, "metallb.") || strings.HasPrefix(key, "heraldlb.io/") {
			if slim.Annotations == nil {
				slim.Annotations = map[string]string{}
			}
			slim.Annotations[key] = value
		}
	}
	slim.Spec.Type = s.Spec.Type
	slim.Spec.LoadBalancerClass = s.Spec.LoadBalancerClass
	slim.Spec.ExternalTrafficPolicy = s.Spec.ExternalTrafficPolicy
	return slim, nil
}

// slimNode keeps the labels and whether the network works.
func slimNode(obj any) (any, error) {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Node{ObjectMeta: slimMeta(n.ObjectMeta)}
	slim.Labels = n.Labels
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable {
			slim.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return slim, nil
}

// slimPod keeps where a speaker runs and what its address is.
func slimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{ObjectMeta: slimMeta(p.ObjectMeta)}
	slim.Labels = p.Labels
	slim.Spec.NodeName = p.Spec.NodeName
	slim.Status = corev1.PodStatus{Phase: p.Status.Phase, PodIP: p.Status.PodIP}
	return slim, nil
}
