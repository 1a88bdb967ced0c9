//go:build lab

package layer2

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// A pool may be written as a range or as a prefix.
func TestPoolsByRangeAndByPrefix(t *testing.T) {
	for _, tt := range []struct {
		name      string
		option    harness.ServiceOption
		n         int
		addresses func(harness.Block) string
	}{
		{"IPv4Range", harness.V4, 1, harness.Block.Range4},
		{"IPv4Prefix", harness.V4, 1, harness.Block.Prefix4},
		{"IPv6Range", harness.V6, 1, harness.Block.Range6},
		{"IPv6Prefix", harness.V6, 1, harness.Block.Prefix6},
		{"DualStackRange", harness.Dual, 2, harness.Block.Range},
		{"DualStackPrefix", harness.Dual, 2, func(b harness.Block) string { return b.Prefix4() + ", " + b.Prefix6() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := harness.New(t)
			block := h.Block(0)
			pool := h.Pool("p", "addresses: ["+tt.addresses(block)+"], autoAssign: false")
			h.Advertise("a", "ipAddressPools: ["+pool+"]")
			h.Echo("web", 1)
			h.Service("web", tt.option, harness.From(pool))
			for _, addr := range h.WaitAddresses("web", tt.n) {
				if !block.Has(addr) {
					t.Errorf("%s is not of the pool %s", addr, tt.addresses(block))
				}
				h.Reaches(addr)
			}
		})
	}
}

// A pool is used by who asks for it by name; by others only if it may be.
func TestAddressPoolAnnotation(t *testing.T) {
	for _, family := range harness.Families()[:2] {
		for _, auto := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/AutoAssign=%t", family.Name, auto), func(t *testing.T) {
				t.Parallel()
				h := harness.New(t)
				block := h.Block(0)
				// Only for this test's Services, so that other tests' do not use it.
				pool := h.Pool("p", fmt.Sprintf("addresses: [%s], autoAssign: %t, serviceAllocation: {namespaces: [%s]}",
					block.Range(), auto, h.Namespace))
				h.Advertise("a", "ipAddressPools: ["+pool+"]")
				h.Echo("web", 1)
				h.Service("named", family.Option, harness.From(pool), harness.To("web"))
				h.Service("unnamed", family.Option, harness.To("web"))

				reached := []string{"named"}
				if auto {
					reached = append(reached, "unnamed")
				} else {
					h.WaitCondition("unnamed", harness.Assigned, metav1.ConditionFalse, "NoPoolForService")
				}
				for _, name := range reached {
					addr := h.WaitAddress(name)
					if !block.Has(addr) {
						t.Errorf("service %s has %s, which is not of the pool", name, addr)
					}
					h.Reaches(addr)
				}
			})
		}
	}
}
