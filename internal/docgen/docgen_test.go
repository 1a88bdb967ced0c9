package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/reason"
)

func TestEveryReasonHasItsRow(t *testing.T) {
	page, err := reasons()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range reason.All() {
		if !strings.Contains(page, "| `"+string(e.Reason)+"` | ") {
			t.Errorf("reason %s has no row", e.Reason)
		}
	}
}

func TestFlagsAreReadFromHelp(t *testing.T) {
	const help = "Usage of speaker:\n" +
		"  -x\tone letter stands on one line\n" +
		"  -port port\n    \tport of the metrics server; 0 turns\n    \tit off (default 9120)\n" +
		"  -wan\n    \tfor nodes | far away\n"
	got := parseHelp(help)
	want := []programFlag{
		{name: "x", usage: "one letter stands on one line"},
		{name: "port", value: "port", usage: "port of the metrics server; 0 turns it off (default 9120)"},
		{name: "wan", usage: "for nodes | far away"},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(programFlag{})); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}

	page := flagsPage(want[:2], want[1:])
	_, page, _ = strings.Cut(page, "\n## ")
	wantPage := "Both programs\n\n| flag | meaning |\n|---|---|\n| `--port port` | port of the metrics server; 0 turns it off (default 9120) |\n" +
		"\n## Controller\n\n| flag | meaning |\n|---|---|\n| `--x` | one letter stands on one line |\n" +
		"\n## Speaker\n\n| flag | meaning |\n|---|---|\n| `--wan` | for nodes \\| far away |\n"
	if diff := cmp.Diff(wantPage, page); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func metricsOf(t *testing.T, source string) ([]metric, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "metrics.go"), []byte("package p\n"+source), 0o600); err != nil {
		t.Fatal(err)
	}
	return metricsIn(dir)
}

func TestMetricsAreReadFromTheCode(t *testing.T) {
	got, err := metricsOf(t, `
const prefix = "metallb_" + "layer2"
var labels = []string{"ip"}
var desc = prometheus.NewDesc(prefix+"_announced", "Help of a descriptor.", []string{"service"}, nil)
func f() {
	_ = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "metallb", Subsystem: "layer2", Name: "requests_received", Help: "Requests."}, labels)
	_ = prometheus.NewGauge(prometheus.GaugeOpts{Name: "plain", Help: "One " + "gauge."})
	_ = prometheus.NewHistogram(prometheus.HistogramOpts{Name: "seconds", Help: "Times."})
	_ = prometheus.MustNewConstMetric(desc, prometheus.CounterValue, 1, "x")
}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []metric{
		{name: "metallb_layer2_announced", kind: "counter", help: "Help of a descriptor.", labels: []string{"service"}},
		{name: "metallb_layer2_requests_received", kind: "counter", help: "Requests.", labels: []string{"ip"}},
		{name: "plain", kind: "gauge", help: "One gauge."},
		{name: "seconds", kind: "histogram", help: "Times."},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(metric{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMetricsAreReadThroughHelpersAndTables(t *testing.T) {
	got, err := metricsOf(t, `
var gauges = []struct{ name, help string; value func() float64 }{
	{"metallb_pool_total", "Of a table.", nil},
}
func f() {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	_ = counter("heraldlb_calls_total", "Of a helper.")
	for _, g := range gauges {
		d = append(d, prometheus.NewDesc(g.name, g.help, []string{"pool"}, nil))
	}
	_ = prometheus.MustNewConstMetric(d[i], prometheus.GaugeValue, 1, "x")
}
func g() {
	m := &all{seen: prometheus.NewDesc("heraldlb_seen", "Of a sender.", nil, nil)}
	count := func(d *prometheus.Desc, n uint64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
	count(m.seen, 1)
}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []metric{
		{name: "metallb_pool_total", kind: "gauge", help: "Of a table.", labels: []string{"pool"}},
		{name: "heraldlb_calls_total", kind: "counter", help: "Of a helper."},
		{name: "heraldlb_seen", kind: "counter", help: "Of a sender."},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(metric{})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestMetricWithAComputedNameIsRefused(t *testing.T) {
	_, err := metricsOf(t, `func f() { _ = prometheus.NewGauge(prometheus.GaugeOpts{Name: os.Args[0], Help: "x"}) }`)
	if err == nil || !strings.Contains(err.Error(), "metrics.go:2") || !strings.Contains(err.Error(), "known before the program runs") {
		t.Errorf("got error %v, want the place and what was expected", err)
	}
}

func TestAMetricOfBothProgramsHasOneRow(t *testing.T) {
	page, err := metricsPage([]metric{
		{name: "heraldlb_b", kind: "gauge", help: "B.", by: "speaker"},
		{name: "heraldlb_a", kind: "counter", help: "A.", by: "controller"},
		{name: "heraldlb_b", kind: "gauge", help: "B.", by: "controller"},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rows, _ := strings.Cut(page, "|---|---|---|---|---|\n")
	want := "| `heraldlb_a` | counter |  | controller | A. |\n| `heraldlb_b` | gauge |  | both | B. |\n"
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, err := metricsPage([]metric{{name: "metallb_mute", by: "speaker"}}); err == nil || !strings.Contains(err.Error(), "mute has no help") {
		t.Errorf("a metric without help: got error %v", err)
	}
	if _, err := metricsPage([]metric{{name: "herald_x", help: "X."}}); err == nil || !strings.Contains(err.Error(), "herald_x is neither") {
		t.Errorf("a metric with another prefix: got error %v", err)
	}
}
