//go:build lab

package bgp

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

const (
	// present is how many Services there are while others get their addresses.
	present = 1000
	samples = 200
)

// BenchmarkAssign writes addresses into the status of Services, one after the
// other, and waits for the routes in the kernels of a BIRD and of an FRR router.
// The time counts from the moment at which the write was sent.
func BenchmarkAssign(b *testing.B) {
	r := newRig(b)
	r.makeServices(0, present)
	r.each(present, present+samples, r.makeService)
	r.advertise()
	routers := r.addRouters(neighbor{bird: true}, neighbor{})
	r.peers(routers)
	r.startSpeaker(nil)
	r.awaitRoutes(present, routers...)
	r.load("the routers have the routes")
	// What a start of so many Services has to report is not what is measured.
	r.speaker.rest(0.05)
	r.load("the speaker is at rest")
	var bird, frr, write, after []time.Duration
	for i := present; i < present+samples; i++ {
		sent := time.Now()
		r.must(r.serve(r.ctx, i, addressOf(i).String()))
		write = append(write, time.Since(sent))
		var came [2]time.Duration
		for k, n := range routers {
			r.await(n.kernel, fmt.Sprintf("%s has %s", n.name, prefixOf(i)), func() bool {
				at := n.kernel.has(prefixOf(i))
				came[k] = at.Sub(sent)
				return !at.IsZero()
			})
		}
		bird, frr = append(bird, came[0]), append(frr, came[1])
		after = append(after, came[0]-write[len(write)-1])
	}
	r.load(fmt.Sprintf("%d routes: the write %s, BIRD %s, which is %s after the answer, FRR %s",
		samples, spread(write), spread(bird), spread(after), spread(frr)))
	b.ReportMetric(ms(percentile(bird, 50)), "bgp.assign_to_route_bird_p50_ms")
	b.ReportMetric(ms(percentile(bird, 99)), "bgp.assign_to_route_bird_p99_ms")
	b.ReportMetric(ms(percentile(frr, 99)), "bgp.assign_to_route_frr_p99_ms")
}

// percentile returns the value that p of 100 values do not exceed.
func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

func spread(all []time.Duration) string {
	return fmt.Sprintf("%.1f/%.1f/%.1f ms (half, 99 %%, all)", ms(percentile(all, 50)), ms(percentile(all, 99)), ms(percentile(all, 100)))
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
