//go:build lab

package bgp

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/probe"
)

// All speakers end at once and come back. Towards a peer with graceful restart no
// packet is lost; towards one without, there is no route until they are back.
func TestSpeakersRestart(t *testing.T) {
	s := open(t)
	graceful, plain := s.plane(0, "64500", "timers 3 9"), s.plane(1, "64500")
	gr4 := graceful.peer("v4", false, ebgp+", enableGracefulRestart: true")
	gr6 := graceful.peer("v6", true, ebgp+", enableGracefulRestart: true")
	no4, no6 := plain.peer("no4", false, ebgp), plain.peer("no6", true, ebgp)
	s.Echo("web", 2, "node1", "node2")
	s.Service("web", harness.Dual, harness.From(s.pool))
	s.advertiseTo("kept", "", gr4, gr6)
	kept := s.WaitAddresses("web", 2)
	whole := s.pool
	s.pool = s.Pool("lost", "addresses: ["+s.RoutedBlock().Range()+"], autoAssign: false")
	s.advertiseTo("lost", "", no4, no6)
	s.Service("plain", harness.Dual, harness.From(s.pool), harness.To("web"))
	lost := s.WaitAddresses("plain", 2)
	s.pool = whole
	s.routed(kept, s.Nodes()...)
	s.routed(lost, s.Nodes()...)
	for _, n := range s.Nodes() {
		if mode := graceful.neighbor(n, false, nil).GracefulRestart; mode != "Restart" {
			t.Errorf("the router sees the graceful restart mode %q of %s, want Restart", mode, n)
		}
		if st := s.WaitSession(gr4, n, nil); !st.GracefulRestart {
			t.Errorf("the BGPSessionStatus of %s says that there is no graceful restart", n)
		}
		if st := s.WaitSession(no4, n, nil); st.GracefulRestart {
			t.Errorf("the BGPSessionStatus of %s says that there is graceful restart, which nobody asked for", n)
		}
	}
	for _, a := range append(kept, lost...) {
		s.Serves(a)
	}
	s.WholeAtEnd()

	calm := s.calm(kept)
	stop := s.Measure(append(kept, lost...)...)
	old := map[string]string{}
	for _, n := range s.Nodes() {
		pod, err := s.Speaker(n)
		s.Must(err)
		old[n] = pod
		s.DeleteSpeaker(n, -1)
	}
	s.routed(lost)
	s.routed(kept, s.Nodes()...)
	for _, n := range s.Nodes() {
		s.WaitSpeaker(n, old[n])
	}
	s.routed(lost, s.Nodes()...)
	graceful.up(false, s.Nodes()...)
	graceful.up(true, s.Nodes()...)
	for _, a := range append(kept, lost...) {
		s.Reaches(a)
	}
	results := stop()
	calm()
	without := map[bool][]probe.Result{}
	for i, r := range results {
		without[i >= len(kept)] = append(without[i >= len(kept)], r)
	}
	for _, r := range without[false] {
		// That no route changed is the proof; a busy machine may lose a probe.
		if r.Lost*100 > r.Total {
			t.Errorf("%s: %d of %d connections failed, want none with graceful restart", r.Target, r.Lost, r.Total)
		}
	}
	for _, r := range without[true] {
		if r.Lost == 0 || r.Open {
			t.Errorf("%s: %d of %d connections failed (over: %t); without graceful restart some should, and then no more", r.Target, r.Lost, r.Total, !r.Open)
		}
	}
	// What was stale is fresh again.
	for _, a := range kept {
		for _, n := range s.Nodes() {
			graceful.path(n, host(a), fresh)
		}
	}
}

func fresh(p lab.BGPPath) error {
	if p.Stale {
		return errors.New("it is stale")
	}
	return nil
}

// calm watches the router's kernel; the check that it returns fails the test if a
// route to one of the addresses changed meanwhile.
func (s *stage) calm(addrs []netip.Addr) (check func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Ctx)
	var changes bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.ExecTo(ctx, s.tor.Name, nil, &changes, &changes, "ip", "monitor", "route") // killed in the end
	}()
	end := func() { cancel(); <-done }
	s.Cleanup(end)
	return func() {
		s.Helper()
		end()
		for line := range strings.Lines(changes.String()) {
			if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return strings.Contains(line, a.String()+" ") }) {
				s.Errorf("%s changed a route: %s", s.tor.Name, line)
			}
		}
		if changes.Len() == 0 {
			s.Errorf("%s saw no change of any route, not even of those without graceful restart", s.tor.Name)
		}
	}
}
