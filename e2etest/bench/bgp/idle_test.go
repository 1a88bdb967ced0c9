//go:build lab

package bgp

import (
	"testing"
	"time"
)

const (
	few  = 10
	idle = 30 * time.Second
)

// BenchmarkIdle looks at a speaker that has nothing to do but to keep two sessions
// with BFD at 300 ms. There is no gossip ring, which BGP does not need, and whose
// cost has nothing to do with it: see docs/performance.md.
func BenchmarkIdle(b *testing.B) {
	r := newRig(b)
	r.makeServices(0, few)
	r.advertise()
	r.profile("slow", 300*time.Millisecond)
	routers := r.addRouters(neighbor{bfd: 300 * time.Millisecond}, neighbor{bird: true, bfd: 300 * time.Millisecond})
	r.peers(routers, with("bfdProfile", "slow"))
	r.startSpeaker(nil, aloneInTheRing)
	r.speaker.ready()
	r.awaitRoutes(few, routers...)
	r.awaitBFD(len(routers))
	r.speaker.rest(0.05)
	p := r.speaker.process()
	before, err := p.CPU()
	r.must(err)
	r.load("the speaker is at rest")
	start := time.Now()
	r.speaker.profile("idle", idle-time.Second)
	r.pause(idle)
	after, err := p.CPU()
	r.must(err)
	took := time.Since(start)
	now, peak, err := p.Memory()
	r.must(err)
	r.load("it was watched")
	r.step("%.2f CPU-seconds in %.1f s; %.1f MB, at most %.1f MB", after-before, took.Seconds(), now, peak)
	r.speaker.heap("idle")
	b.ReportMetric(now, "bgp.idle_rss_mb")
	b.ReportMetric(100*(after-before)/took.Seconds(), "bgp.idle_cpu_pct")
}
