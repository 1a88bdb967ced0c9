//go:build netns

package udp

import (
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

const (
	// busyEnv makes the test binary burn a core until it is interrupted.
	busyEnv = "HERALD_TEST_BUSY"
	// loadTimeEnv shortens BenchmarkNetnsLoaded for whoever works on it.
	loadTimeEnv = "HERALD_BFD_LOAD_TIME"
	loadTime    = 10 * time.Minute
)

// busy burns a core.
func busy() int {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt)
	for n := uint64(1); ; n++ {
		if n%(1<<20) == 0 && len(stop) > 0 {
			return 0
		}
	}
}

// manyPeers are addresses of the peer's side, and FRR's sessions from them.
func manyPeers(t testing.TB, p pair, n int, interval time.Duration) (desired.BFD, string) {
	want := make(desired.BFD, n)
	lines := []string{"bfd"}
	for i := range n {
		remote := netip.AddrFrom4([4]byte{10, 8, 2, byte(i + 1)})
		local := netip.AddrFrom4([4]byte{10, 8, 1, byte(i + 1)})
		p.node.IP(t, fmt.Sprintf("addr add %s/16 dev eth0", local))
		p.peer.IP(t, fmt.Sprintf("addr add %s/16 dev eth0", remote))
		want[observed.BFDPeer{Remote: remote, Local: local}] = every(interval)
		lines = append(lines, fmt.Sprintf(" peer %s local-address %s", local, remote),
			fmt.Sprintf("  receive-interval %d", interval.Milliseconds()),
			fmt.Sprintf("  transmit-interval %d", interval.Milliseconds()), " exit")
	}
	return want, strings.Join(append(lines, "exit"), "\n")
}

func (r *running) awaitAllUp(t testing.TB, n int) {
	t.Helper()
	netns.Wait(t, time.Minute, "all sessions are up", func() bool {
		up := 0
		for _, s := range r.Observed() {
			if s.State == bfd.Up {
				up++
			}
		}
		return up == n
	})
}

// widen sets GOMAXPROCS as the speaker does when BFD is in use.
func widen(t testing.TB) {
	if os.Getenv("GOMAXPROCS") == "" {
		old := runtime.GOMAXPROCS(max(8, 2*runtime.NumCPU()))
		t.Cleanup(func() { runtime.GOMAXPROCS(old) })
	}
}

// loaded is what the first run of BenchmarkNetnsLoaded found: `make bench`
// repeats every benchmark, and this one is only worth its time once.
var loaded struct {
	done   bool
	alarms float64
}

// BenchmarkNetnsLoaded measures bfd.false_alarms_10min_loaded: how often one of
// 20 sessions at 50 ms x 3 with FRR goes down while all cores are busy, both
// with other processes and with goroutines and garbage of our own.
func BenchmarkNetnsLoaded(b *testing.B) {
	span := loadTime
	if text := os.Getenv(loadTimeEnv); text != "" {
		var err error
		if span, err = time.ParseDuration(text); err != nil {
			b.Fatalf("%s: %v", loadTimeEnv, err)
		}
	}
	if loaded.done {
		b.ReportMetric(loaded.alarms, "bfd.false_alarms_10min_loaded")
		for b.Loop() {
			continue
		}
		return
	}
	widen(b)
	const sessions = 20
	p := newPair(b)
	want, config := manyPeers(b, p, sessions, 50*ms)
	frr := router.FRR(b, p.peer, config)
	gaps := &gapKernel{}
	r := startRoom(b, gaps)
	r.Set(want)
	r.awaitAllUp(b, sessions)
	gaps.worst.Store(0)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for range runtime.NumCPU() {
		p.node.Start(b, []string{busyEnv + "=1"}, self)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { defer close(done); litter(stop) }()
	before, begin := r.value(b, "metallb_bfd_session_down_events"), time.Now()
	alarms := 0.0
	for b.Loop() {
		netns.Wait(b, span+time.Minute, "the time of the measurement passes", func() bool { return time.Since(begin) >= span })
		alarms = r.value(b, "metallb_bfd_session_down_events") - before
	}
	close(stop)
	<-done
	loaded.done, loaded.alarms = true, alarms
	b.ReportMetric(alarms, "bfd.false_alarms_10min_loaded")
	b.ReportMetric(frrDowns(b, frr), "frr-downs")
	b.ReportMetric(float64(gaps.worst.Load())/float64(ms), "worst-gap-ms")
	b.Logf("%s: %v sessions went down: %v", span, alarms, downs(r.log.String()))
}

// gapKernel notes the longest time between two packets of a session: if it is
// below the detection time, an alarm was not our fault.
type gapKernel struct {
	system
	worst atomic.Int64
}

// Dial implements kernel.
func (k *gapKernel) Dial(p observed.BFDPeer) (outlet, error) {
	out, err := k.system.Dial(p)
	if err != nil {
		return nil, err
	}
	return &gapOutlet{outlet: out, k: k, last: time.Now()}, nil
}

type gapOutlet struct {
	outlet
	k    *gapKernel
	last time.Time
	up   bool
}

// Send implements outlet; the room's lock guards it. The intervals of a second
// of a session that is not up do not count.
func (o *gapOutlet) Send(b []byte) error {
	now, up := time.Now(), bfd.State(b[1]>>6) == bfd.Up
	if gap := int64(now.Sub(o.last)); up && o.up && gap > o.k.worst.Load() {
		o.k.worst.Store(gap)
	}
	o.last, o.up = now, up
	return o.outlet.Send(b)
}

// downs counts the reasons in a room's log.
func downs(log string) map[string]int {
	reasons := map[string]int{}
	for line := range strings.Lines(log) {
		if _, after, ok := strings.Cut(line, "reason="); ok {
			word, _, _ := strings.Cut(after, " ")
			at, _, _ := strings.Cut(strings.TrimPrefix(line, "time="), " ")
			reasons[word+" at "+at[11:19]]++
		}
	}
	return reasons
}

// litter allocates 50 MB a second, as the rest of the speaker does when everything
// changes at once, and keeps 64 MB.
func litter(stop <-chan struct{}) {
	keep := make([][]byte, 1<<14)
	tick := time.NewTicker(10 * ms)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		for range 122 {
			keep[i%len(keep)] = make([]byte, 4096)
			i++
		}
	}
}

func frrDowns(t testing.TB, r *router.Router) float64 {
	var peers []frrCounters
	r.JSON(t, "show bfd peers counters json", &peers)
	sum := 0
	for _, p := range peers {
		sum += p.Downs
	}
	return float64(sum)
}

// BenchmarkNetnsCPU100x100ms measures bfd.cpu_pct_100x100ms: what 100 sessions
// at 100 ms cost this process, in per cent of a core.
func BenchmarkNetnsCPU100x100ms(b *testing.B) {
	widen(b)
	const sessions = 100
	p := newPair(b)
	want, config := manyPeers(b, p, sessions, 100*ms)
	router.FRR(b, p.peer, config)
	r := runRoom(b)
	r.Set(want)
	r.awaitAllUp(b, sessions)
	var used, took time.Duration
	for b.Loop() {
		before, begin := processTime(b), time.Now()
		time.Sleep(5 * time.Second)
		used, took = used+processTime(b)-before, took+time.Since(begin)
	}
	b.ReportMetric(100*used.Seconds()/took.Seconds(), "bfd.cpu_pct_100x100ms")
}

// processTime is the CPU time that this process has used.
func processTime(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
