//go:build lab

package singlestack

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// A Service that prefers both families in a cluster of one, with a pool of both,
// has one address and is left alone. In MetalLB its status flips for ever.
func TestPreferDualStackRests(t *testing.T) {
	h := harness.New(t)
	pool := h.Pool("p", `addresses: [198.18.0.1-198.18.0.9, "2001:db8::1-2001:db8::9"], autoAssign: false`)
	h.Service("web", harness.PreferDual, harness.From(pool))
	if got, want := h.WaitAddress("web"), netip.MustParseAddr("198.18.0.1"); got != want {
		t.Errorf("the Service has %s, want %s", got, want)
	}
	h.WaitCondition("web", harness.Assigned, metav1.ConditionTrue, "Assigned")
	rests := func() {
		// The last who writes are the speakers.
		h.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "NoMatchingAdvertisement")
		before, err := h.GetService("web")
		h.Must(err)
		h.Always(3*time.Second, func() error {
			now, err := h.GetService("web")
			if err == nil && now.ResourceVersion != before.ResourceVersion {
				err = fmt.Errorf("the Service is written again: it said %+v, now %+v", before.Status, now.Status)
			}
			return err
		})
	}
	rests()
	// Nor does anything happen when the controller looks at everything anew.
	h.RestartController()
	rests()
	events, err := h.ServiceEvents("web", "IPAllocated")
	h.Must(err)
	if len(events) != 1 {
		t.Errorf("events IPAllocated: %+v, want one", events)
	}
	for _, reason := range []string{"ClearAssignment", "AdditionalAssignFailed", "AllocationFailed"} {
		events, err := h.ServiceEvents("web", reason)
		h.Must(err)
		if len(events) > 0 {
			t.Errorf("events %s: %+v, want none", reason, events)
		}
	}
}

// What a cluster of one family cannot serve is refused by the API server, or says
// what is missing.
func TestTheOtherFamily(t *testing.T) {
	h := harness.New(t)
	err := h.TryApply("apiVersion: v1\nkind: Service\nmetadata: {name: both}\nspec: {type: LoadBalancer, ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}\n")
	if err == nil || !strings.Contains(err.Error(), "ipFamilyPolicy") {
		t.Errorf("a Service that requires both families: %v, want a refusal that names ipFamilyPolicy", err)
	}
	six := h.Pool("six", `addresses: ["2001:db8:1::1-2001:db8:1::9"], autoAssign: false`)
	h.Service("web", harness.PreferDual, harness.From(six))
	c := h.WaitCondition("web", harness.Assigned, metav1.ConditionFalse, "FamilyNotInPool")
	if !strings.Contains(c.Message, "IPv4") || !strings.Contains(c.Message, six) {
		t.Errorf("the condition names neither the pool nor the family: %s", c.Message)
	}
	h.Pool("six", `addresses: ["2001:db8:1::1-2001:db8:1::9", 198.18.1.1/32], autoAssign: false`)
	h.WaitAddress("web")
}
