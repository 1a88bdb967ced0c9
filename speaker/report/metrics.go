package report

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/config"
)

// metrics are MetalLB's names and meanings.
type metrics struct {
	updates, failures prometheus.Counter
	loaded, stale     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, r *Reporter) *metrics {
	m := &metrics{
		updates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "metallb_k8s_client_updates_total",
			Help: "Number of changes of Kubernetes objects that were processed.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "metallb_k8s_client_update_errors_total",
			Help: "Number of changes that could not be processed or written.",
		}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "metallb_k8s_client_config_loaded_bool",
			Help: "1 once the configuration has been read.",
		}),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "metallb_k8s_client_config_stale_bool",
			Help: "1 while a part of the configuration cannot be used.",
		}),
	}
	if reg != nil {
		reg.MustRegister(m.updates, m.failures, m.loaded, m.stale, announcedCollector{r})
	}
	return m
}

func (m *metrics) config(problems []config.Problem) {
	m.loaded.Set(1)
	m.stale.Set(0)
	for _, p := range problems {
		if p.Severity == config.Error {
			m.stale.Set(1)
		}
	}
}

// announcedCollector makes the series of announced addresses when they are
// asked for: there is one for each address and none to forget.
type announcedCollector struct{ r *Reporter }

var announcedDesc = prometheus.NewDesc("metallb_speaker_announced",
	"Services being announced from this node. This is desired state, it does not guarantee that the announcing protocol is working as intended.",
	[]string{"service", "protocol", "node", "ip"}, nil)

func (c announcedCollector) Describe(to chan<- *prometheus.Desc) { to <- announcedDesc }

func (c announcedCollector) Collect(to chan<- prometheus.Metric) {
	c.r.mu.Lock()
	var series []prometheus.Metric
	for key, e := range c.r.entries {
		for _, d := range e.decisions() {
			if !d.Announce {
				continue
			}
			for _, ip := range d.Addresses {
				series = append(series, prometheus.MustNewConstMetric(announcedDesc, prometheus.GaugeValue, 1,
					key.String(), string(d.Protocol), c.r.me.node, ip.String()))
			}
		}
	}
	c.r.mu.Unlock()
	for _, s := range series {
		to <- s
	}
}
