package udp

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/bfd"
)

// metrics collects the room's counters. Those of a session live in it, and
// leave with it.
type metrics struct {
	room *Room

	// dropped counts packets that reached no session, or that it refused. The
	// room's lock guards it.
	dropped struct{ malformed, unknown, ttl, auth, other uint64 }

	sessionUp, controlIn, controlOut, echoIn, echoOut, ups, downs, droppedPackets *prometheus.Desc
}

func newMetrics(r *Room) *metrics {
	peer := []string{"peer", "vrf"}
	return &metrics{
		room:           r,
		sessionUp:      prometheus.NewDesc("metallb_bfd_session_up", "BFD session state (1 is up, 0 is down).", peer, nil),
		controlIn:      prometheus.NewDesc("metallb_bfd_control_packet_input", "Number of received BFD control packets.", peer, nil),
		controlOut:     prometheus.NewDesc("metallb_bfd_control_packet_output", "Number of sent BFD control packets.", peer, nil),
		echoIn:         prometheus.NewDesc("metallb_bfd_echo_packet_input", "Number of BFD echo packets of ours that came back.", peer, nil),
		echoOut:        prometheus.NewDesc("metallb_bfd_echo_packet_output", "Number of sent BFD echo packets.", peer, nil),
		ups:            prometheus.NewDesc("metallb_bfd_session_up_events", "Number of BFD session up events.", peer, nil),
		downs:          prometheus.NewDesc("metallb_bfd_session_down_events", "Number of BFD session down events.", peer, nil),
		droppedPackets: prometheus.NewDesc("heraldlb_bfd_dropped_packets_total", "Received BFD packets that were not taken, by cause: malformed, unknown, ttl, auth or other.", []string{"cause"}, nil),
	}
}

// refused counts a packet that a session did not take.
func (m *metrics) refused(err error) {
	for _, auth := range []error{bfd.ErrAuthMissing, bfd.ErrAuthExtra, bfd.ErrAuthType, bfd.ErrAuthKey, bfd.ErrAuthSequence, bfd.ErrAuthDigest} {
		if errors.Is(err, auth) {
			m.dropped.auth++
			return
		}
	}
	m.dropped.other++
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.sessionUp, m.controlIn, m.controlOut, m.echoIn, m.echoOut, m.ups, m.downs, m.droppedPackets} {
		ch <- d
	}
}

// tally is what the sessions with one peer counted together; all but those by
// different local addresses are alone.
type tally struct {
	up, controlIn, controlOut, echoIn, echoOut, ups, downs uint64
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.room.mu.Lock()
	type series struct{ peer, vrf string }
	all := make(map[series]tally, len(m.room.sessions))
	for key, s := range m.room.sessions {
		at := series{label(key), key.VRF}
		t := all[at]
		if s.wasUp {
			t.up = 1
		}
		t.controlIn += s.controlIn
		t.controlOut += s.controlOut
		t.echoIn += s.echoIn
		t.echoOut += s.echoOut
		t.ups += s.ups
		t.downs += s.downs
		all[at] = t
	}
	dropped := m.dropped
	m.room.mu.Unlock()

	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	for at, t := range all {
		ch <- prometheus.MustNewConstMetric(m.sessionUp, prometheus.GaugeValue, float64(t.up), at.peer, at.vrf)
		counter(m.controlIn, t.controlIn, at.peer, at.vrf)
		counter(m.controlOut, t.controlOut, at.peer, at.vrf)
		counter(m.echoIn, t.echoIn, at.peer, at.vrf)
		counter(m.echoOut, t.echoOut, at.peer, at.vrf)
		counter(m.ups, t.ups, at.peer, at.vrf)
		counter(m.downs, t.downs, at.peer, at.vrf)
	}
	counter(m.droppedPackets, dropped.malformed, "malformed")
	counter(m.droppedPackets, dropped.unknown, "unknown")
	counter(m.droppedPackets, dropped.ttl, "ttl")
	counter(m.droppedPackets, dropped.auth, "auth")
	counter(m.droppedPackets, dropped.other, "other")
}
