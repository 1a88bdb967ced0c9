package l2

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics collects the room's counters. Those of an address live in its entry
// of the table, so the packet path only adds to an integer, and they leave
// with the address. As with MetalLB, a series appears with its first frame.
type metrics struct {
	table *table

	// received counts the frames that the kernel's filter let through;
	// malformed those about our addresses that are truncated or contradict
	// themselves; errors failed calls on the sockets; dropped frames that came
	// faster than we read.
	received, malformed, errors, dropped atomic.Uint64

	requestsReceived, responsesSent, gratuitousSent, foreignAnnouncements *prometheus.Desc
	receivedFrames, malformedFrames, socketErrors, droppedFrames          *prometheus.Desc
}

func newMetrics(t *table) *metrics {
	ip := []string{"ip"}
	return &metrics{
		table: t,
		requestsReceived: prometheus.NewDesc("metallb_layer2_requests_received",
			"ARP requests and neighbor solicitations received for an announced IP.", ip, nil),
		responsesSent: prometheus.NewDesc("metallb_layer2_responses_sent",
			"ARP replies and neighbor advertisements sent in answer to requests for an announced IP.", ip, nil),
		gratuitousSent: prometheus.NewDesc("metallb_layer2_gratuitous_sent",
			"Frames sent unasked to tell the neighbours who announces an IP: bursts and periodic refresh.", ip, nil),
		foreignAnnouncements: prometheus.NewDesc("heraldlb_layer2_foreign_announcements_total",
			"Announcements of an announced IP that came from another station.", ip, nil),
		receivedFrames: prometheus.NewDesc("heraldlb_layer2_received_frames_total",
			"ARP and NDP frames that the kernel's packet filter let through to the speaker.", nil, nil),
		malformedFrames: prometheus.NewDesc("heraldlb_layer2_malformed_frames_total",
			"ARP and NDP frames that were truncated or contradicted themselves.", nil, nil),
		socketErrors: prometheus.NewDesc("heraldlb_layer2_socket_errors_total",
			"Failed calls on the ARP and NDP sockets.", nil, nil),
		droppedFrames: prometheus.NewDesc("heraldlb_layer2_dropped_frames_total",
			"ARP and NDP frames for announced IPs that were lost because they came faster than they were read.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.requestsReceived, m.responsesSent, m.gratuitousSent,
		m.foreignAnnouncements, m.receivedFrames, m.malformedFrames, m.socketErrors, m.droppedFrames} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	counter(m.receivedFrames, m.received.Load())
	counter(m.malformedFrames, m.malformed.Load())
	counter(m.socketErrors, m.errors.Load())
	counter(m.droppedFrames, m.dropped.Load())
	for e := range m.table.all {
		ip := ""
		for _, c := range []struct {
			desc  *prometheus.Desc
			count uint64
		}{
			{m.requestsReceived, e.tally.requests.Load()},
			{m.responsesSent, e.tally.responses.Load()},
			{m.gratuitousSent, e.tally.gratuitous.Load()},
			{m.foreignAnnouncements, e.tally.foreign.Load()},
		} {
			if c.count == 0 {
				continue
			}
			if ip == "" {
				ip = e.addr.String()
			}
			counter(c.desc, c.count, ip)
		}
	}
}
