package membership

import "github.com/prometheus/client_golang/prometheus"

type ringMetrics struct {
	members       prometheus.Gauge
	joins         *prometheus.CounterVec
	undecryptable prometheus.Counter
	malformed     prometheus.Counter
}

// newRingMetrics registers the metrics; reg may be nil.
func newRingMetrics(reg prometheus.Registerer) *ringMetrics {
	m := &ringMetrics{
		members: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "heraldlb_membership_members",
			Help: "Speakers in the gossip ring as this one sees it, itself included.",
		}),
		joins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "heraldlb_membership_calls_total",
			Help: "Calls to other speakers to join or to fetch their state, by result: ok, unreachable, foreign_key.",
		}, []string{"result"}),
		undecryptable: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "heraldlb_membership_undecryptable_total",
			Help: "Gossip messages that none of this speaker's keys could decrypt.",
		}),
		malformed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "heraldlb_membership_malformed_total",
			Help: "Decrypted gossip messages that could not be read in whole.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.members, m.joins, m.undecryptable, m.malformed)
	}
	return m
}
