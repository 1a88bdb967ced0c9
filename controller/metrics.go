package main

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/config"
)

// metrics are the controller's, under MetalLB's names where it has them. The
// gauges of pools are read off the last report, so they go with their pool.
type metrics struct {
	updates, updateErrors, eventsDropped prometheus.Counter
	loaded, stale                        prometheus.Gauge
	usage                                atomic.Pointer[[]ipam.Usage]
}

// poolGauges are the gauges with the label pool.
var poolGauges = []struct {
	name, help string
	value      func(u ipam.Usage) float64
}{
	{"metallb_allocator_addresses_total", "Number of usable addresses in the pool.",
		func(u ipam.Usage) float64 { return float64(u.TotalIPv4) + float64(u.TotalIPv6) }},
	{"metallb_allocator_ipv4_addresses_total", "Number of usable IPv4 addresses in the pool.",
		func(u ipam.Usage) float64 { return float64(u.TotalIPv4) }},
	{"metallb_allocator_ipv6_addresses_total", "Number of usable IPv6 addresses in the pool; 2^63-1 or more read as 2^63-1.",
		func(u ipam.Usage) float64 { return float64(u.TotalIPv6) }},
	{"metallb_allocator_addresses_in_use_total", "Number of addresses of the pool that Services hold; a shared one counts once.",
		func(u ipam.Usage) float64 { return float64(u.AssignedIPv4) + float64(u.AssignedIPv6) }},
	{"metallb_allocator_ipv4_addresses_in_use_total", "Number of IPv4 addresses of the pool that Services hold.",
		func(u ipam.Usage) float64 { return float64(u.AssignedIPv4) }},
	{"metallb_allocator_ipv6_addresses_in_use_total", "Number of IPv6 addresses of the pool that Services hold.",
		func(u ipam.Usage) float64 { return float64(u.AssignedIPv6) }},
	{"metallb_allocator_services_allocated_total", "Number of Services that hold addresses of the pool.",
		func(u ipam.Usage) float64 { return float64(u.Services) }},
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		updates:       counter("metallb_k8s_client_updates_total", "Number of changes of Kubernetes objects that were processed."),
		updateErrors:  counter("metallb_k8s_client_update_errors_total", "Number of changes that could not be processed or written."),
		eventsDropped: counter("heraldlb_controller_events_dropped_total", "Number of events that were not written because there were too many."),
		loaded:        gauge("metallb_k8s_client_config_loaded_bool", "1 once the configuration has been read."),
		stale:         gauge("metallb_k8s_client_config_stale_bool", "1 while a part of the configuration cannot be used."),
	}
	reg.MustRegister(m.updates, m.updateErrors, m.eventsDropped, m.loaded, m.stale, newPoolCollector(m))
	return m
}

// configured notes what a compilation found.
func (m *metrics) configured(problems []config.Problem) {
	m.loaded.Set(1)
	if errs, _ := bySeverity(problems); len(errs) > 0 {
		m.stale.Set(1)
	} else {
		m.stale.Set(0)
	}
}

// publish makes the use of the pools readable from any goroutine.
func (m *metrics) publish(usage []ipam.Usage) { m.usage.Store(&usage) }

// A poolCollector tells the gauges of the pools.
type poolCollector struct {
	metrics *metrics
	descs   []*prometheus.Desc
}

func newPoolCollector(m *metrics) poolCollector {
	c := poolCollector{metrics: m}
	for _, g := range poolGauges {
		c.descs = append(c.descs, prometheus.NewDesc(g.name, g.help, []string{"pool"}, nil))
	}
	return c
}

func (c poolCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

func (c poolCollector) Collect(to chan<- prometheus.Metric) {
	usage := c.metrics.usage.Load()
	if usage == nil {
		return
	}
	for _, u := range *usage {
		for i, g := range poolGauges {
			to <- prometheus.MustNewConstMetric(c.descs[i], prometheus.GaugeValue, g.value(u), u.Pool)
		}
	}
}
