//go:build lab

package bgp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/heraldlb/herald/e2etest/herald"
)

const (
	detectors = 10
	cuts      = 10
	fast      = 50 * time.Millisecond
)

// BenchmarkDetect takes the power of routers, a hundred times in all: their ports
// of the switch go down, so that the node sees no link fail, no FIN and no answer.
// The time counts from then to the end of the BGP session in the speaker's log.
func BenchmarkDetect(b *testing.B) {
	r := newRig(b)
	r.makeServices(0, few)
	r.advertise()
	r.profile("fast", fast)
	var kinds []neighbor
	for i := range detectors {
		kinds = append(kinds, neighbor{bird: i%2 == 0, bfd: fast})
	}
	routers := r.addRouters(kinds...)
	r.startSpeaker(nil)
	r.speaker.ready()
	var all []time.Duration
	for run := range cuts {
		// New peers each time: a session that fails again and again waits longer.
		before := len(r.speaker.said(sessionDown))
		r.peers(routers, with("bfdProfile", "fast"))
		r.awaitBFD(detectors)
		r.pause(time.Second) // they begin slowly, and agree on the interval when they are up
		all = append(all, r.cut(routers, before)...)
		r.dropPeers(routers)
		for _, n := range routers {
			r.must(r.switches.SetLink(n.port, true))
		}
		if run == cuts-1 {
			break
		}
		r.until("the sessions are forgotten", 50*time.Millisecond, func() error {
			if states := r.bfdStates(); len(states) > 0 {
				return fmt.Errorf("there are still %v", states)
			}
			return nil
		})
	}
	if len(all) < detectors*cuts/2 {
		r.Fatalf("only %d of %d cuts count", len(all), detectors*cuts)
	}
	r.load(fmt.Sprintf("%d cuts: %s", len(all), spread(all)))
	b.ReportMetric(ms(percentile(all, 99)), "bfd.detect_50x3_p99_ms")
}

// cut takes the power of all routers, one after the other, and returns how long
// each session lasted; before is how many sessions had ended when they began.
func (r *rig) cut(routers []*router, before int) (all []time.Duration) {
	r.Helper()
	at := map[string]time.Time{}
	for _, n := range routers {
		at[n.name] = time.Now()
		r.must(r.switches.SetLink(n.port, false))
		r.pause(time.Duration(rand.Int64N(int64(fast)))) // anywhere between two packets
	}
	first := map[string]line{}
	r.until("all sessions end", 20*time.Millisecond, func() error {
		for _, l := range r.speaker.said(sessionDown)[before:] {
			if _, had := first[l.Peer]; !had {
				first[l.Peer] = l
			}
		}
		if len(first) != len(routers) {
			return fmt.Errorf("%d of %d", len(first), len(routers))
		}
		return nil
	})
	for peer, l := range first {
		if cut := at[peer]; l.Time.Before(cut) || l.Reason != "BFDSaysDown" {
			// On a machine that stands still for 150 ms, the routers declare the node
			// dead. That is another matter than the one that is measured.
			r.step("the session with %s ended for %s, %s after its cut: it does not count", peer, l.Reason, l.Time.Sub(cut))
			continue
		}
		all = append(all, l.Time.Sub(at[peer]))
	}
	r.step("cut: %v", all)
	return all
}

var sessionStatuses = schema.GroupVersionResource{Group: "heraldlb.io", Version: "v1alpha1", Resource: "bgpsessionstatuses"}

// bfdStates are the states of the sessions' BFD as the speaker reports them.
func (r *rig) bfdStates() (states []string) {
	r.Helper()
	cfg, err := r.cp.RESTConfig()
	r.must(err)
	client, err := dynamic.NewForConfig(cfg)
	r.must(err)
	list, err := client.Resource(sessionStatuses).Namespace(herald.Namespace).List(r.ctx, metav1.ListOptions{})
	r.must(err)
	for _, o := range list.Items {
		bgp, _, _ := unstructured.NestedString(o.Object, "status", "state")
		bfd, _, _ := unstructured.NestedString(o.Object, "status", "bfd", "state")
		states = append(states, bgp+"/"+bfd)
	}
	slices.Sort(states)
	return states
}

// awaitBFD waits until this many sessions are established and watched.
func (r *rig) awaitBFD(count int) {
	r.Helper()
	r.until("all sessions are watched", 50*time.Millisecond, func() error {
		states := r.bfdStates()
		if len(states) != count || slices.ContainsFunc(states, func(s string) bool { return !strings.EqualFold(s, "Established/Up") }) {
			return fmt.Errorf("they are %v", states)
		}
		return nil
	})
}
