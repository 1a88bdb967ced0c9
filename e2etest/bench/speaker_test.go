//go:build lab

package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/bench/usage"
	"github.com/heraldlb/herald/e2etest/lab"
)

// BenchmarkSpeaker5k restarts speakers on a cluster of three nodes with 5,000
// Services, each with an address and an endpoint. Five times a single one is
// restarted, which counts for the figures; then all at once, which counts for
// those addresses that a speaker announces without owning them.
func BenchmarkSpeaker5k(b *testing.B) {
	w := newWorld(b, "benchspk", 3, func(w *world) {
		w.stopProxies()
		w.makeServices(true)
	})
	w.makePool()
	l, t := w.keepLedger(), w.tapWire()
	w.until("all have an address", 2*time.Minute, 100*time.Millisecond, func() error {
		if n := l.served(); n != many {
			return fmt.Errorf("%d of %d", n, many)
		}
		return nil
	})
	s := &speakers{world: w, ledger: l, wire: t}
	w.load("creating the L2Advertisement")
	before, start := s.usage(), time.Now()
	w.advertise()
	w.until("all are announced and reported", 3*time.Minute, 50*time.Millisecond, func() (err error) {
		s.owners, err = l.owners()
		return err
	})
	took, after := time.Since(start), s.usage()
	for node, used := range after {
		w.step("announced and reported for the first time, by all in %.1f s: %s used %.2f CPU-seconds", took.Seconds(), node, used-before[node])
	}

	var cpu, rss, announce []float64
	foreign := 0
	for run := range runs {
		f := s.restart(w.State.Layout.Nodes[run%len(w.State.Layout.Nodes)])[0]
		cpu, rss, announce = append(cpu, f.cpu), append(rss, f.rss), append(announce, f.announced.Seconds())
		foreign += f.foreign
	}
	for _, f := range s.restart(w.State.Layout.Nodes...) {
		foreign += f.foreign
	}
	b.ReportMetric(median(rss), "speaker.rss5k_mb")
	b.ReportMetric(median(cpu), "speaker.settle5k_cpu_s")
	b.ReportMetric(median(announce), "speaker.first_announce5k_s")
	b.ReportMetric(float64(foreign), "speaker.foreign_announces_at_start")
}

// speakers is a cluster whose speakers have come to rest.
type speakers struct {
	*world
	ledger *ledger
	wire   *wire
	// owners is who announces which Service when all speakers are there.
	owners map[string]string
}

// A fresh speaker is one that was just started, and what is measured on it.
type fresh struct {
	host lab.Host
	usage.Process
	own map[netip.Addr]bool

	// announced is how long after its start it had announced all that it owns.
	announced time.Duration
	// cpu is what it used until everybody knew, in seconds; rss what it occupies
	// afterwards, in MB.
	cpu, rss float64
	// foreign counts addresses that it announced and does not own.
	foreign int
}

// restart deletes the speakers' pods of some nodes and returns what their
// successors needed until everything was as before.
func (s *speakers) restart(hosts ...lab.Host) []*fresh {
	s.Helper()
	s.wire.forget()
	old := s.speakers()
	for _, h := range hosts {
		s.deletePod(old[h.Name])
	}
	var all []*fresh
	for _, h := range hosts {
		all = append(all, s.started(h, old[h.Name]))
	}
	// Read while it happens: what a process used until then cannot be asked later.
	s.until("everything is announced and reported again", 2*time.Minute, 50*time.Millisecond, func() error {
		errs := []error{s.ledger.sameOwners(s.owners)}
		for _, f := range all {
			errs = append(errs, s.look(f))
		}
		return errors.Join(errs...)
	})
	for _, f := range all {
		s.settle(f.Process)
		s.must(s.look(f)) // what it announced later counts as well
		used, err := f.Process.CPU()
		s.must(err)
		now, peak, err := f.Memory()
		s.must(err)
		f.rss = now
		s.profile(f.host.Name, "127.0.0.1", "heap", f.host.Name, 0)
		s.load(fmt.Sprintf("restarted %d, %s: owns %d, all announced after %.2f s, %d foreign; settled for %.2f CPU-seconds (%.2f at rest); %.1f MB, at most %.1f MB",
			len(hosts), f.host.Name, len(f.own), f.announced.Seconds(), f.foreign, f.cpu, used, now, peak))
	}
	return all
}

// speakers returns the name of the speaker's pod on each node.
func (s *speakers) speakers() map[string]string {
	s.Helper()
	names := map[string]string{}
	for _, p := range s.pods("speaker") {
		names[p.Spec.NodeName] = p.Name
	}
	return names
}

// usage is how many CPU-seconds each node's speaker has used.
func (s *speakers) usage() map[string]float64 {
	s.Helper()
	used := map[string]float64{}
	for node, pod := range s.speakers() {
		p, err := processOf(pod)
		s.must(err)
		used[node], err = p.CPU()
		s.must(err)
	}
	return used
}

// started waits for the process of a node's next speaker.
func (s *speakers) started(h lab.Host, old string) *fresh {
	s.Helper()
	f := &fresh{host: h, own: s.ledger.addressesOf(h.Name, s.owners)}
	s.until("the speaker of "+h.Name+" starts", time.Minute, 20*time.Millisecond, func() (err error) {
		pod := s.speakers()[h.Name]
		if pod == "" || pod == old {
			return errors.New("there is no new pod")
		}
		f.Process, err = processOf(pod)
		return err
	})
	s.profile(h.Name, "127.0.0.1", "profile", h.Name, 10*time.Second)
	return f
}

// look takes the figures of a speaker; it returns what is still to come.
func (s *speakers) look(f *fresh) error {
	first, err := s.wire.since(strings.ToLower(f.host.Interfaces[0].MAC), f.Started)
	if err != nil {
		return err
	}
	f.foreign, f.announced = 0, 0
	missing := len(f.own)
	for addr, at := range first {
		if !f.own[addr] {
			f.foreign++
			continue
		}
		missing--
		f.announced = max(f.announced, at.Sub(f.Started))
	}
	if missing > 0 {
		return fmt.Errorf("%s has yet to announce %d of %d addresses", f.host.Name, missing, len(f.own))
	}
	if f.cpu == 0 {
		return errors.Join(s.ledger.sameOwners(s.owners), s.readCPU(f))
	}
	return nil
}

func (s *speakers) readCPU(f *fresh) (err error) {
	f.cpu, err = f.Process.CPU()
	return err
}
