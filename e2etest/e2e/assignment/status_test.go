//go:build lab

package assignment

import (
	"fmt"
	"math"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// The status of a pool counts what is given out and what is left.
func TestPoolStatus(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	s.elsewhere()
	pool := s.ours("p", s.range4(1, 4), s.range6(1, 4))
	s.poolSays(pool, 0, 4, 0, 4)
	s.Service("web", harness.Dual)
	s.has("web", s.v4(1), s.v6(1))
	s.poolSays(pool, 1, 3, 1, 3)
	s.Service("four", harness.V4)
	s.poolSays(pool, 2, 2, 1, 3)

	s.ours("p", s.range4(1, 10), s.range6(1, 4))
	s.poolSays(pool, 2, 8, 1, 3)

	s.DeleteService("four")
	s.poolSays(pool, 1, 9, 1, 3)
	s.Delete(harness.Pools, pool)
	s.waits("web", "NoPoolForService")
	// Another pool of that name starts from nothing.
	s.ours("p", s.range4(5, 8), s.range6(5, 8))
	s.has("web", s.v4(5), s.v6(5))
	s.poolSays(pool, 1, 3, 1, 3)
}

// What somebody writes into the status of a pool is put right.
func TestPoolStatusIsPutRight(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.ours("p", s.range4(1, 4))
	s.Service("web")
	s.poolSays(pool, 1, 3, 0, 0)
	s.Step("write nonsense into the status")
	o, err := s.Object(harness.Pools, pool)
	s.Must(err)
	o.Object["status"] = map[string]any{"assignedIPv4": int64(77), "availableIPv4": int64(-1), "assignedIPv6": int64(0), "availableIPv6": int64(0)}
	_, err = s.Dynamic.Resource(harness.Pools).Namespace(o.GetNamespace()).UpdateStatus(s.Ctx, o, metav1.UpdateOptions{})
	s.Must(err)
	s.poolSays(pool, 1, 3, 0, 0)
}

// Counters are never negative: not for pools without end, not for pools of which
// no address may be used. MetalLB's are, and raise false alarms.
func TestCountersOfOddPools(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	huge := s.ours("huge", s.range4(1, 4), s.v6(0)+"/56")
	buggy := s.Pool("buggy", fmt.Sprintf("addresses: [%s, %s], avoidBuggyIPs: true, serviceAllocation: {namespaces: [%s]}",
		s.one4(255), s.one4(0), s.Namespace))
	s.poolSays(huge, 0, 4, 0, math.MaxInt64)
	s.poolSays(buggy, 0, 0, 0, 0)
	s.refused("asks", "FamilyNotInPool", harness.From(buggy))
	s.refused("names", "AddressNotInPool", harness.At(addr(s.v4(255))))
	s.Service("web", harness.Dual)
	s.has("web", s.v4(1), s.v6(0))
	s.poolSays(huge, 1, 3, 1, math.MaxInt64)
	for name, want := range map[string]float64{
		"metallb_allocator_ipv6_addresses_total":        math.MaxInt64,
		"metallb_allocator_ipv6_addresses_in_use_total": 1,
		"metallb_allocator_ipv4_addresses_total":        4,
	} {
		s.measures(name, huge, want)
	}
	s.measures("metallb_allocator_addresses_total", buggy, 0)
}

// The number of Services of a pool is counted, a shared address once for each,
// and forgotten with the pool.
func TestServicesAreCounted(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.ours("p", s.range4(1, 1))
	s.Service("first", harness.Sharing("k"))
	s.Service("second", harness.Sharing("k"), harness.Ports("81/TCP:8080"))
	s.has("first", s.v4(1))
	s.has("second", s.v4(1))
	const services = "metallb_allocator_services_allocated_total"
	s.measures(services, pool, 2)
	s.measures("metallb_allocator_addresses_in_use_total", pool, 1)
	s.DeleteService("first")
	s.measures(services, pool, 1)
	s.UpdateService("second", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeNodePort })
	s.measures(services, pool, 0)
	s.Delete(harness.Pools, pool)
	s.Eventually(harness.Patience, func() error {
		m, err := s.ControllerMetrics()
		if found := m.Of(services, "pool", pool); err == nil && len(found) > 0 {
			err = fmt.Errorf("the pool is deleted, but the metrics tell of it: %+v", found)
		}
		return err
	})
}

// measures waits for the value of a gauge of a pool.
func (s *story) measures(name, pool string, want float64) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		m, err := s.ControllerMetrics()
		if err != nil {
			return err
		}
		got, err := m.Value(name, "pool", pool)
		if err == nil && got != want {
			err = fmt.Errorf("%s of pool %s is %v, want %v", name, pool, got, want)
		}
		return err
	})
}
