package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/internal/status"
)

// An outcome is what a Service shall say of its addresses.
type outcome struct {
	addrs []netip.Addr
	pool  string
	// condition is nil for a Service that is not served: it then carries none.
	condition *metav1.Condition
}

// outcomeOf turns a decision into what is to be written.
func outcomeOf(d ipam.Decision) outcome {
	c := &metav1.Condition{Type: status.Assigned, Status: metav1.ConditionFalse, Reason: string(d.Reason), Message: d.Message}
	if len(d.Addresses) > 0 {
		c.Status = metav1.ConditionTrue
	}
	if d.Reason == reason.Assigned {
		c.Message = fmt.Sprintf("%s from pool %q", joined(d.Addresses), d.Pool)
	}
	return outcome{addrs: d.Addresses, pool: d.Pool, condition: c}
}

func joined(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, ", ")
}

// marked reports whether a Service carries anything that a controller of
// addresses left on it.
func marked(svc *corev1.Service) bool {
	_, ok := svc.Annotations[service.AnnotationFromPool]
	return ok || status.Find(svc.Status.Conditions, status.Assigned) != nil
}

// A statusPatch is a strategic merge patch of a Service's status: it touches
// the ingress list, our annotation and our condition, and leaves what others
// own alone. It applies only to the version that it was made from.
type statusPatch struct {
	Metadata struct {
		ResourceVersion string             `json:"resourceVersion"`
		Annotations     map[string]*string `json:"annotations,omitempty"`
	} `json:"metadata"`
	Status struct {
		LoadBalancer *ingressPatch `json:"loadBalancer,omitempty"`
		Conditions   []any         `json:"conditions,omitempty"`
	} `json:"status"`
}

// ingressPatch has no omitempty: null is what empties the list.
type ingressPatch struct {
	Ingress []corev1.LoadBalancerIngress `json:"ingress"`
}

// conditionRemoval is the directive that takes one condition from the list.
type conditionRemoval struct {
	Patch string `json:"$patch"`
	Type  string `json:"type"`
}

// patchFor returns the patch that makes svc say want; nil when it does already.
func patchFor(svc *corev1.Service, want outcome, now metav1.Time) ([]byte, error) {
	var p statusPatch
	changed := false
	if ingress := ingressOf(want.addrs); !slices.EqualFunc(ingress, svc.Status.LoadBalancer.Ingress, sameIngress) {
		changed = true
		p.Status.LoadBalancer = &ingressPatch{ingress}
	}
	if pool, ok := svc.Annotations[service.AnnotationFromPool]; pool != want.pool || ok != (want.pool != "") {
		changed = true
		p.Metadata.Annotations = map[string]*string{service.AnnotationFromPool: nil}
		if want.pool != "" {
			p.Metadata.Annotations[service.AnnotationFromPool] = &want.pool
		}
	}
	old := status.Find(svc.Status.Conditions, status.Assigned)
	switch {
	case want.condition != nil:
		c := *want.condition
		c.ObservedGeneration = svc.Generation
		if next, differs := status.Next(old, c, now); differs {
			changed = true
			p.Status.Conditions = []any{next}
		}
	case old != nil:
		changed = true
		p.Status.Conditions = []any{conditionRemoval{"delete", status.Assigned}}
	}
	if !changed {
		return nil, nil
	}
	p.Metadata.ResourceVersion = svc.ResourceVersion
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the status of Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	return data, nil
}

// probeFor returns a patch that changes nothing and succeeds only if svc is as
// it is now: after a write that may have been lost or not, it tells which.
func probeFor(svc *corev1.Service) ([]byte, error) {
	data, err := json.Marshal(map[string]any{"metadata": map[string]string{"resourceVersion": svc.ResourceVersion}})
	if err != nil {
		return nil, fmt.Errorf("encode a patch of Service %s/%s: %w", svc.Namespace, svc.Name, err)
	}
	return data, nil
}

func ingressOf(addrs []netip.Addr) []corev1.LoadBalancerIngress {
	if len(addrs) == 0 {
		return nil
	}
	// Kube-proxy is to treat the address as its own: traffic arrives with it as
	// the destination, not with the node's.
	mode := corev1.LoadBalancerIPModeVIP
	list := make([]corev1.LoadBalancerIngress, len(addrs))
	for i, a := range addrs {
		list[i] = corev1.LoadBalancerIngress{IP: a.String(), IPMode: &mode}
	}
	return list
}

func sameIngress(a, b corev1.LoadBalancerIngress) bool {
	return a.IP == b.IP && a.Hostname == b.Hostname && len(b.Ports) == len(a.Ports) &&
		(a.IPMode == nil) == (b.IPMode == nil) && (a.IPMode == nil || *a.IPMode == *b.IPMode)
}

// A note is an event to be told on an object.
type note struct {
	warning bool
	reason  string
	text    string
}

// The reasons of the events on Services: MetalLB's, where one can be written
// as a word.
const (
	eventAllocated   = "IPAllocated"
	eventCleared     = "ClearAssignment"
	eventOneFamily   = "AdditionalAssignFailed"
	eventNoAddress   = "AllocationFailed"
	eventBadRequest  = "LoadBalancerFailed"
	eventClusterIPs  = "NotEnoughClusterIPs"
	eventDeprecated  = "deprecatedAnnotation"
	eventConfig      = "ConfigurationError"
	eventConfigWarns = "ConfigurationWarning"
)

// notesFor returns what is to be told when svc, as it is, comes to say what d
// decided. Nothing is told twice: what svc says already is old news.
func notesFor(svc *corev1.Service, parsed *service.Service, d ipam.Decision, lost *ipam.Refusal) []note {
	var notes []note
	if lost != nil && !slices.Equal(parsed.Addresses, d.Addresses) {
		notes = append(notes, note{reason: eventCleared, text: "the Service lost its address: " + lost.Message})
	}
	for _, addr := range d.Addresses {
		if !slices.Contains(parsed.Addresses, addr) {
			notes = append(notes, note{reason: eventAllocated, text: fmt.Sprintf("assigned %s from pool %q", joined(d.Addresses), d.Pool)})
			break
		}
	}
	old := status.Find(svc.Status.Conditions, status.Assigned)
	if old == nil || old.Reason != string(d.Reason) || old.Message != d.Message {
		if n, ok := shortcoming(d); ok {
			notes = append(notes, n)
		}
	}
	for _, key := range parsed.DeprecatedAnnotations {
		notes = append(notes, note{warning: true, reason: eventDeprecated, text: fmt.Sprintf("annotation %s is deprecated: use the prefix metallb.io/", key)})
	}
	return notes
}

// shortcoming is the event for a Service that lacks something.
func shortcoming(d ipam.Decision) (note, bool) {
	switch {
	case d.Reason == reason.Assigned:
		return note{}, false
	case d.Reason == reason.OneFamilyOnly:
		return note{reason: eventOneFamily, text: d.Message}, true
	case d.Reason == reason.NotEnoughClusterIPs:
		return note{warning: true, reason: eventClusterIPs, text: d.Message}, true
	case d.Reason == reason.InvalidRequest && len(d.Addresses) > 0:
		return note{warning: true, reason: eventBadRequest, text: d.Message}, true
	case len(d.Addresses) == 0:
		return note{warning: true, reason: eventNoAddress, text: fmt.Sprintf("%s: %s", d.Reason, d.Message)}, true
	}
	return note{}, false
}
