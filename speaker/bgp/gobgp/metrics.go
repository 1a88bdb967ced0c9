package gobgp

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/observed"
)

// counts are the messages of one session, over all of its connections.
type counts struct {
	out, in [6]atomic.Uint64 // by type; 0 for all
}

func (c *counts) sent(t bgp.MessageType) {
	c.out[0].Add(1)
	c.out[t].Add(1)
}

func (c *counts) received(t bgp.MessageType) {
	c.in[0].Add(1)
	c.in[t].Add(1)
}

// metrics reads the sessions when it is asked. All series carry the labels peer,
// "ip:port" as MetalLB writes it, and vrf, "" for none.
type metrics struct {
	room  *Room
	descs []metric
}

// metric is one name and where its value is.
type metric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*session, observed.Session) float64
}

func newMetrics(r *Room) *metrics {
	m := &metrics{room: r}
	add := func(name, help string, kind prometheus.ValueType, value func(*session, observed.Session) float64) {
		m.descs = append(m.descs, metric{
			prometheus.NewDesc("metallb_bgp_"+name, help, []string{"peer", "vrf"}, nil), kind, value})
	}
	add("session_up", "BGP session state (1 is up, 0 is down).", prometheus.GaugeValue,
		func(_ *session, o observed.Session) float64 {
			if o.State == observed.Established {
				return 1
			}
			return 0
		})
	add("announced_prefixes_total", "Number of prefixes that the peer has been told.", prometheus.GaugeValue,
		func(_ *session, o observed.Session) float64 { return float64(o.SentIPv4 + o.SentIPv6) })
	add("pending_prefixes_total", "Number of prefixes that the peer should have been told and has not.", prometheus.GaugeValue,
		func(s *session, o observed.Session) float64 { return float64(s.waiting(o)) })
	count := func(name, help string, pick func(*counts) *atomic.Uint64) {
		add(name, help, prometheus.CounterValue, func(s *session, _ observed.Session) float64 {
			return float64(pick(&s.counts).Load())
		})
	}
	out := func(t bgp.MessageType) func(*counts) *atomic.Uint64 {
		return func(c *counts) *atomic.Uint64 { return &c.out[t] }
	}
	in := func(t bgp.MessageType) func(*counts) *atomic.Uint64 {
		return func(c *counts) *atomic.Uint64 { return &c.in[t] }
	}
	count("updates_total", "Number of UPDATE messages sent.", out(bgp.UpdateMessage))
	count("updates_total_received", "Number of UPDATE messages received; all of their routes are refused.", in(bgp.UpdateMessage))
	count("opens_sent", "Number of OPEN messages sent.", out(bgp.OpenMessage))
	count("opens_received", "Number of OPEN messages received.", in(bgp.OpenMessage))
	count("notifications_sent", "Number of NOTIFICATION messages sent.", out(bgp.NotificationMessage))
	count("notifications_received", "Number of NOTIFICATION messages received.", in(bgp.NotificationMessage))
	count("keepalives_sent", "Number of KEEPALIVE messages sent.", out(bgp.KeepaliveMessage))
	count("keepalives_received", "Number of KEEPALIVE messages received.", in(bgp.KeepaliveMessage))
	count("route_refresh_sent", "Number of ROUTE-REFRESH messages sent.", out(bgp.RefreshMessage))
	count("route_refresh_received", "Number of ROUTE-REFRESH messages received.", in(bgp.RefreshMessage))
	count("total_sent", "Number of messages sent.", out(0))
	count("total_received", "Number of messages received.", in(0))
	return m
}

// waiting counts the prefixes that the peer should have and has not.
func (s *session) waiting(o observed.Session) int {
	want := s.config()
	routes := 0
	s.room.mu.Lock()
	for p := range s.room.routes[want.Name] {
		if p.Addr().Is4() && want.IPv4 || p.Addr().Is6() && want.IPv6 {
			routes++
		}
	}
	s.room.mu.Unlock()
	return max(0, routes-o.SentIPv4-o.SentIPv6)
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.room.mu.Lock()
	var all []*session
	for s := range m.room.everyone {
		all = append(all, s)
	}
	m.room.mu.Unlock()
	seen := make(map[[2]string]struct{}, len(all))
	for _, s := range all {
		o := s.observed()
		peer, vrf := nameOf(o)
		// Two peers may be one address while one replaces the other.
		if _, twice := seen[[2]string{peer, vrf}]; twice {
			continue
		}
		seen[[2]string{peer, vrf}] = struct{}{}
		for _, d := range m.descs {
			ch <- prometheus.MustNewConstMetric(d.desc, d.kind, d.value(s, o), peer, vrf)
		}
	}
}
