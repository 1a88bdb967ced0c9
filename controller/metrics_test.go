package main

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/config"
)

func TestPoolGaugesComeAndGoWithTheirPool(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := newMetrics(reg)
	m.publish([]ipam.Usage{{Pool: "a", Services: 3, AssignedIPv4: 2, TotalIPv4: 4, AssignedIPv6: 1, TotalIPv6: 8}})
	want := `
# HELP metallb_allocator_addresses_in_use_total Number of addresses of the pool that Services hold; a shared one counts once.
# TYPE metallb_allocator_addresses_in_use_total gauge
metallb_allocator_addresses_in_use_total{pool="a"} 3
# HELP metallb_allocator_addresses_total Number of usable addresses in the pool.
# TYPE metallb_allocator_addresses_total gauge
metallb_allocator_addresses_total{pool="a"} 12
# HELP metallb_allocator_services_allocated_total Number of Services that hold addresses of the pool.
# TYPE metallb_allocator_services_allocated_total gauge
metallb_allocator_services_allocated_total{pool="a"} 3
`
	names := []string{"metallb_allocator_addresses_in_use_total", "metallb_allocator_addresses_total", "metallb_allocator_services_allocated_total"}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	m.publish(nil)
	if n, err := testutil.GatherAndCount(reg, names...); n != 0 || err != nil {
		t.Errorf("%d gauges of a pool that is gone (%v)", n, err)
	}
}

func TestConfigurationGauges(t *testing.T) {
	m := newMetrics(prometheus.NewPedanticRegistry())
	for _, tt := range []struct {
		name     string
		problems []config.Problem
		stale    float64
	}{
		{"sound", nil, 0},
		{"a warning", []config.Problem{{Severity: config.Warning}}, 0},
		{"an error", []config.Problem{{Severity: config.Error}}, 1},
	} {
		m.configured(tt.problems)
		if got := testutil.ToFloat64(m.stale); got != tt.stale || testutil.ToFloat64(m.loaded) != 1 {
			t.Errorf("%s: stale %v, want %v", tt.name, got, tt.stale)
		}
	}
}
