package main

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

var (
	then = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now  = metav1.NewTime(time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC))
)

func addrs(texts ...string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

// apply does what the API server does with a patch of a Service's status.
func apply(t *testing.T, svc *corev1.Service, patch []byte) *corev1.Service {
	t.Helper()
	before, err := json.Marshal(svc)
	if err != nil {
		t.Fatal(err)
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Service{})
	if err != nil {
		t.Fatal(err)
	}
	var out corev1.Service
	if err := json.Unmarshal(after, &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// Whatever a Service said before, after the patch it says the outcome, others'
// conditions are as they were, and there is nothing more to write.
func TestPatchLeadsToTheOutcome(t *testing.T) {
	foreign := metav1.Condition{Type: "heraldlb.io/Announced", Status: metav1.ConditionTrue, Reason: "Elected", LastTransitionTime: then}
	one := outcomeOf(ipam.Decision{Addresses: addrs("10.0.0.1"), Pool: "main", Reason: reason.Assigned})
	two := outcomeOf(ipam.Decision{Addresses: addrs("fd00::1", "10.0.0.1"), Pool: "main", Reason: reason.Assigned})
	none := outcomeOf(ipam.Decision{Reason: reason.PoolExhausted, Message: "full"})
	outcomes := map[string]outcome{"one address": one, "two, in the order asked for": two, "none": none, "not served": {}}
	starts := map[string]*corev1.Service{
		"new":       {},
		"MetalLB's": {ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{service.AnnotationFromPool: "old", "mine": "x"}}, Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "10.0.0.1"}}}}},
		"a host":    {Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{Hostname: "example.org"}, {IP: "10.0.0.1"}}}}},
		"garbage":   {Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "nonsense"}}}}},
	}
	for startName, start := range starts {
		for before, first := range outcomes {
			for after, want := range outcomes {
				t.Run(startName+": "+before+", then "+after, func(t *testing.T) {
					svc := start.DeepCopy()
					svc.ResourceVersion = "7"
					svc.Status.Conditions = []metav1.Condition{foreign}
					for _, o := range []outcome{first, want} {
						patch, err := patchFor(svc, o, now)
						if err != nil {
							t.Fatal(err)
						}
						if patch != nil {
							svc = apply(t, svc, patch)
						}
					}
					if patch, err := patchFor(svc, want, now); patch != nil || err != nil {
						t.Errorf("there is more to write: %s %v", patch, err)
					}
					if diff := cmp.Diff(ingressOf(want.addrs), svc.Status.LoadBalancer.Ingress); diff != "" {
						t.Errorf("ingress (-want +got)\n%s", diff)
					}
					if got := svc.Annotations[service.AnnotationFromPool]; got != want.pool {
						t.Errorf("pool %q, want %q", got, want.pool)
					}
					if start.Annotations["mine"] != svc.Annotations["mine"] {
						t.Error("a foreign annotation is gone")
					}
					wantConditions := 1
					if want.condition != nil {
						wantConditions = 2
					}
					if len(svc.Status.Conditions) != wantConditions {
						t.Errorf("conditions %+v, want %d", svc.Status.Conditions, wantConditions)
					}
				})
			}
		}
	}
}

func TestPatchAppliesToOneVersionOnly(t *testing.T) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{ResourceVersion: "42"}}
	patch, err := patchFor(svc, outcomeOf(ipam.Decision{Reason: reason.NoPools}), now)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(patch, &p); err != nil || p.Metadata.ResourceVersion != "42" {
		t.Errorf("patch %s (%v)", patch, err)
	}
}

func TestEventsAreToldOnChangeOnly(t *testing.T) {
	holds := func(reasonWas, message string, has ...string) (*corev1.Service, *service.Service) {
		svc := &corev1.Service{}
		if reasonWas != "" {
			svc.Status.Conditions = []metav1.Condition{{Type: "heraldlb.io/Assigned", Reason: reasonWas, Message: message}}
		}
		return svc, &service.Service{Addresses: addrs(has...)}
	}
	tests := []struct {
		name       string
		was, says  string
		has        []string
		deprecated []string
		decision   ipam.Decision
		lost       *ipam.Refusal
		want       []string
	}{
		{name: "an address for a new Service", decision: ipam.Decision{Addresses: addrs("10.0.0.1"), Reason: reason.Assigned}, want: []string{"IPAllocated"}},
		{name: "an address that was adopted", has: []string{"10.0.0.1"}, decision: ipam.Decision{Addresses: addrs("10.0.0.1"), Reason: reason.Assigned}},
		{name: "a second address", has: []string{"10.0.0.1"}, decision: ipam.Decision{Addresses: addrs("10.0.0.1", "fd00::1"), Reason: reason.Assigned}, want: []string{"IPAllocated"}},
		{name: "an address lost and another gained", has: []string{"10.0.0.1"}, decision: ipam.Decision{Addresses: addrs("10.0.0.2"), Reason: reason.Assigned},
			lost: &ipam.Refusal{Reason: reason.AddressNotInPool, Message: "gone"}, want: []string{"ClearAssignment", "IPAllocated"}},
		{name: "an address lost for good", has: []string{"10.0.0.1"}, decision: ipam.Decision{Reason: reason.NoPools, Message: "none"},
			lost: &ipam.Refusal{Reason: reason.AddressNotInPool, Message: "gone"}, want: []string{"ClearAssignment", "AllocationFailed"}},
		{name: "a pool that is full", decision: ipam.Decision{Reason: reason.PoolExhausted, Message: "full"}, want: []string{"AllocationFailed"}},
		{name: "a pool that is still full", was: "PoolExhausted", says: "full", decision: ipam.Decision{Reason: reason.PoolExhausted, Message: "full"}},
		{name: "another pool that is full", was: "PoolExhausted", says: "a is full", decision: ipam.Decision{Reason: reason.PoolExhausted, Message: "a and b are full"}, want: []string{"AllocationFailed"}},
		{name: "one family of two", has: []string{"10.0.0.1"}, decision: ipam.Decision{Addresses: addrs("10.0.0.1"), Reason: reason.OneFamilyOnly, Message: "no IPv6"}, want: []string{"AdditionalAssignFailed"}},
		{name: "one family of two, again", was: "OneFamilyOnly", says: "no IPv6", has: []string{"10.0.0.1"}, decision: ipam.Decision{Addresses: addrs("10.0.0.1"), Reason: reason.OneFamilyOnly, Message: "no IPv6"}},
		{name: "a request that makes no sense while there is an address", has: []string{"10.0.0.1"}, decision: ipam.Decision{Addresses: addrs("10.0.0.1"), Reason: reason.InvalidRequest, Message: "what"}, want: []string{"LoadBalancerFailed"}},
		{name: "dual stack on one family", decision: ipam.Decision{Reason: reason.NotEnoughClusterIPs, Message: "one"}, want: []string{"NotEnoughClusterIPs"}},
		{name: "an old annotation", deprecated: []string{"metallb.universe.tf/x"}, decision: ipam.Decision{Addresses: addrs("10.0.0.1"), Reason: reason.Assigned}, want: []string{"IPAllocated", "deprecatedAnnotation"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			svc, parsed := holds(tt.was, tt.says, tt.has...)
			parsed.DeprecatedAnnotations = tt.deprecated
			var got []string
			for _, n := range notesFor(svc, parsed, tt.decision, tt.lost) {
				got = append(got, n.reason)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
