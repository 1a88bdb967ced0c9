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
// "ip:port" as MetalLB writes it, and vrf, "" for none. A session's counters live
// in it, and its series go with it.
type metrics struct {
	room *Room

	sessionUp, announced, pending *prometheus.Desc
	updatesSent, updatesReceived, opensSent, opensReceived,
	notificationsSent, notificationsReceived, keepalivesSent, keepalivesReceived,
	refreshSent, refreshReceived, totalSent, totalReceived *prometheus.Desc
}

func newMetrics(r *Room) *metrics {
	labels := []string{"peer", "vrf"}
	return &metrics{
		room: r,
		sessionUp: prometheus.NewDesc("metallb_bgp_session_up",
			"BGP session state (1 is up, 0 is down).", labels, nil),
		announced: prometheus.NewDesc("metallb_bgp_announced_prefixes_total",
			"Number of prefixes that the peer has been told.", labels, nil),
		pending: prometheus.NewDesc("metallb_bgp_pending_prefixes_total",
			"Number of prefixes that the peer should have been told and has not.", labels, nil),
		updatesSent: prometheus.NewDesc("metallb_bgp_updates_total",
			"Number of BGP UPDATE messages sent.", labels, nil),
		updatesReceived: prometheus.NewDesc("metallb_bgp_updates_total_received",
			"Number of BGP UPDATE messages received; all of their routes are refused.", labels, nil),
		opensSent: prometheus.NewDesc("metallb_bgp_opens_sent",
			"Number of BGP OPEN messages sent.", labels, nil),
		opensReceived: prometheus.NewDesc("metallb_bgp_opens_received",
			"Number of BGP OPEN messages received.", labels, nil),
		notificationsSent: prometheus.NewDesc("metallb_bgp_notifications_sent",
			"Number of BGP NOTIFICATION messages sent.", labels, nil),
		notificationsReceived: prometheus.NewDesc("metallb_bgp_notifications_received",
			"Number of BGP NOTIFICATION messages received.", labels, nil),
		keepalivesSent: prometheus.NewDesc("metallb_bgp_keepalives_sent",
			"Number of BGP KEEPALIVE messages sent.", labels, nil),
		keepalivesReceived: prometheus.NewDesc("metallb_bgp_keepalives_received",
			"Number of BGP KEEPALIVE messages received.", labels, nil),
		refreshSent: prometheus.NewDesc("metallb_bgp_route_refresh_sent",
			"Number of BGP ROUTE-REFRESH messages sent.", labels, nil),
		refreshReceived: prometheus.NewDesc("metallb_bgp_route_refresh_received",
			"Number of BGP ROUTE-REFRESH messages received.", labels, nil),
		totalSent: prometheus.NewDesc("metallb_bgp_total_sent",
			"Number of BGP messages sent.", labels, nil),
		totalReceived: prometheus.NewDesc("metallb_bgp_total_received",
			"Number of BGP messages received.", labels, nil),
	}
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
	for _, d := range []*prometheus.Desc{
		m.sessionUp,
		m.announced,
		m.pending,
		m.updatesSent,
		m.updatesReceived,
		m.opensSent,
		m.opensReceived,
		m.notificationsSent,
		m.notificationsReceived,
		m.keepalivesSent,
		m.keepalivesReceived,
		m.refreshSent,
		m.refreshReceived,
		m.totalSent,
		m.totalReceived,
	} {
		ch <- d
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
		m.collect(ch, s, o, peer, vrf)
	}
}

// collect sends the series of one session.
func (m *metrics) collect(ch chan<- prometheus.Metric, s *session, o observed.Session, labels ...string) {
	out := func(t bgp.MessageType) float64 { return float64(s.counts.out[t].Load()) }
	in := func(t bgp.MessageType) float64 { return float64(s.counts.in[t].Load()) }
	ch <- prometheus.MustNewConstMetric(m.sessionUp, prometheus.GaugeValue, up(o), labels...)
	ch <- prometheus.MustNewConstMetric(m.announced, prometheus.GaugeValue, float64(o.SentIPv4+o.SentIPv6), labels...)
	ch <- prometheus.MustNewConstMetric(m.pending, prometheus.GaugeValue, float64(s.waiting(o)), labels...)
	ch <- prometheus.MustNewConstMetric(m.updatesSent, prometheus.CounterValue, out(bgp.UpdateMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.updatesReceived, prometheus.CounterValue, in(bgp.UpdateMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.opensSent, prometheus.CounterValue, out(bgp.OpenMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.opensReceived, prometheus.CounterValue, in(bgp.OpenMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.notificationsSent, prometheus.CounterValue, out(bgp.NotificationMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.notificationsReceived, prometheus.CounterValue, in(bgp.NotificationMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.keepalivesSent, prometheus.CounterValue, out(bgp.KeepaliveMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.keepalivesReceived, prometheus.CounterValue, in(bgp.KeepaliveMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.refreshSent, prometheus.CounterValue, out(bgp.RefreshMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.refreshReceived, prometheus.CounterValue, in(bgp.RefreshMessage), labels...)
	ch <- prometheus.MustNewConstMetric(m.totalSent, prometheus.CounterValue, out(0), labels...)
	ch <- prometheus.MustNewConstMetric(m.totalReceived, prometheus.CounterValue, in(0), labels...)
}

func up(o observed.Session) float64 {
	if o.State == observed.Established {
		return 1
	}
	return 0
}
