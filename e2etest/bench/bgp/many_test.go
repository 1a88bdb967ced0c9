//go:build lab

package bgp

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	synced = 4000
	most   = 10000
	starts = 5
)

// BenchmarkMany starts a speaker five times in a cluster with 4,000 Services and
// four routers: the time counts from the moment at which the first session is
// established until the last router's kernel has the last route. Then it starts
// one with 10,000 Services and two routers, and looks at its memory when it has
// come to rest.
func BenchmarkMany(b *testing.B) {
	r := newRig(b)
	r.otherReports()
	r.makeServices(0, synced)
	r.advertise()
	routers := r.addRouters(neighbor{}, neighbor{bird: true}, neighbor{}, neighbor{bird: true})
	r.peers(routers)
	r.startSpeaker(nil, aloneInTheRing)
	var all []time.Duration
	for run := range starts {
		if run > 0 {
			r.speaker.start()
		}
		all = append(all, r.sync(run+1, routers))
		r.speaker.stop()
		r.awaitRoutes(0, routers...)
	}
	b.ReportMetric(ms(percentile(all, 50)), "bgp.sync4kx4_ms")

	r.dropPeers(routers[2:])
	r.makeServices(synced, most)
	r.speaker.start()
	r.awaitRoutes(most, routers[:2]...)
	cpu := r.speaker.rest(0.05)
	now, peak, err := r.speaker.process().Memory()
	r.must(err)
	r.load(fmt.Sprintf("at rest after %.2f CPU-seconds: %.1f MB, at most %.1f MB", cpu, now, peak))
	r.speaker.heap("many")
	b.ReportMetric(now, "bgp.rss_10kx2_mb")
}

// sync waits until all routers have all routes of a speaker that was started, and
// returns how long that took from the first session on.
func (r *rig) sync(run int, routers []*router) time.Duration {
	r.Helper()
	began := r.speaker.process().Started
	r.awaitRoutes(synced, routers...)
	var first time.Time
	r.until("the speaker logs its sessions", 20*time.Millisecond, func() error {
		lines := r.speaker.said(sessionUp)
		if len(lines) != len(routers) {
			return fmt.Errorf("%d of %d", len(lines), len(routers))
		}
		first = slices.MinFunc(lines, func(a, b line) int { return a.Time.Compare(b.Time) }).Time
		return nil
	})
	var took []time.Duration
	for _, n := range routers {
		_, last, _ := n.kernel.state()
		took = append(took, last.Sub(first))
	}
	r.load(fmt.Sprintf("start %d: first session after %.2f s, then the routers had all after %v", run, first.Sub(began).Seconds(), took))
	return slices.Max(took)
}

// aloneInTheRing switches membership off: every node then counts as alive.
const aloneInTheRing = "METALLB_ML_BIND_ADDR="

// otherReports adds a node that is the first of all, and so the one whose speaker
// tells the cluster of Services. Otherwise ours would write four objects for each.
func (r *rig) otherReports() {
	r.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "first"}}
	nodes := r.kube.CoreV1().Nodes()
	if _, err := nodes.Create(r.ctx, node, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		r.must(err)
	}
	r.Cleanup(func() { _ = nodes.Delete(context.Background(), node.Name, metav1.DeleteOptions{}) })
}
