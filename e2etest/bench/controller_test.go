//go:build lab

package bench

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/bench/usage"
	"github.com/heraldlb/herald/e2etest/herald"
)

// BenchmarkController5k lets 5,000 Services wait for a pool, creates it, and then
// restarts the controller. Herald is installed whole, on a cluster of one node:
// two replicas of the controller and a speaker, which announces nothing because
// there is no L2Advertisement.
func BenchmarkController5k(b *testing.B) {
	w := newWorld(b, "benchctrl", 1, func(w *world) {
		w.stopProxies()
		w.makeServices(false)
	})
	c := &counter{at: map[string]time.Time{}}
	w.watchServices(c.seen)
	w.until("every Service waits for a pool", 2*time.Minute, 200*time.Millisecond, func() error {
		if n := c.waiting.Load(); n < many {
			return fmt.Errorf("%d of %d say so", n, many)
		}
		return nil
	})
	leader := w.leader(nil)
	p, err := processOf(leader)
	w.must(err)
	before, err := p.CPU()
	w.must(err)
	now, peak, err := p.Memory()
	w.must(err)
	w.step("5,000 wait; until now %.2f CPU-seconds, %.1f MB, at most %.1f MB", before, now, peak)

	w.profile("cp", w.podIP(leader), "profile", "controller", 20*time.Second)
	w.load("creating the pool")
	start := time.Now()
	w.makePool()
	w.until("all have an address", 3*time.Minute, 20*time.Millisecond, func() error {
		if n := c.served.Load(); n < many {
			return fmt.Errorf("%d of %d", n, many)
		}
		return nil
	})
	took := time.Since(start)
	cpu, err := p.CPU()
	w.must(err)
	w.load("all have an address")
	b.ReportMetric(took.Seconds(), "controller.assign5k_s")
	b.ReportMetric(cpu-before, "controller.assign5k_cpu_s")

	w.settle(p)
	now, peak, err = p.Memory()
	w.must(err)
	b.ReportMetric(now, "controller.rss5k_mb")
	w.profile("cp", w.podIP(leader), "heap", "controller", 0)
	w.step("assigned in %.2f s for %.2f CPU-seconds (%.2f in all); then %.1f MB, at most %.1f MB", took.Seconds(), cpu-before, cpu, now, peak)

	var waits []time.Duration
	for run := range runs {
		waits = append(waits, w.restartController(c, run))
	}
	b.ReportMetric(float64(median(waits).Microseconds())/1000, "controller.first_after_restart_ms")
}

// runs is how often the benchmarks repeat what they take the median of.
const runs = 5

// counter notes what the controller said about the Services.
type counter struct {
	// waiting counts those that say why they have no address, served those that
	// have one.
	waiting, served atomic.Int64

	mu   sync.Mutex
	said sync.Map
	at   map[string]time.Time // when each had its address
}

func (c *counter) seen(svc *corev1.Service) {
	if condition(svc, assigned) != nil {
		if _, known := c.said.LoadOrStore(svc.Name, true); !known {
			c.waiting.Add(1)
		}
	}
	if address(svc) == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.at[svc.Name]; !known {
		c.at[svc.Name] = time.Now()
		c.served.Add(1)
	}
}

func (c *counter) when(name string) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.at[name]
	if !ok {
		return at, fmt.Errorf("Service %s has no address", name)
	}
	return at, nil
}

// restartController deletes both pods of the controller, and creates a Service as
// soon as a new one leads and is ready. It returns how long that Service waits.
func (w *world) restartController(c *counter, run int) time.Duration {
	w.Helper()
	old := map[string]bool{}
	for _, p := range w.pods("controller") {
		old[p.Name] = true
	}
	// This one waits for all of it: the old ones' end, new pods, the election.
	first := fmt.Sprintf("early-%d", run)
	deleted := time.Now()
	for name := range old {
		w.deletePod(name)
	}
	w.must(createService(w.ctx, w.kube, first))
	leader := w.leader(old)
	ready := time.Now()
	name := fmt.Sprintf("new-%d", run)
	w.must(createService(w.ctx, w.kube, name))
	var at, early time.Time
	w.until("the new Service has an address", time.Minute, 5*time.Millisecond, func() (err error) {
		var err2 error
		at, err = c.when(name)
		early, err2 = c.when(first)
		return errors.Join(err, err2)
	})
	w.step("restart: %s leads and is ready after %.2f s; a new Service then waits %d ms; one that was created with the restart waits %.2f s",
		leader, ready.Sub(deleted).Seconds(), at.Sub(ready).Milliseconds(), early.Sub(deleted).Seconds())
	return at.Sub(ready)
}

// leader waits until a pod of the controller, but none of those, holds the lease
// and says that it is ready, and returns its name.
func (w *world) leader(but map[string]bool) (name string) {
	w.Helper()
	client := w.httpClient("cp") // the control plane knows ways to pods
	w.until("a controller leads", time.Minute, 10*time.Millisecond, func() error {
		lease, err := w.kube.CoordinationV1().Leases(herald.Namespace).Get(w.ctx, "metallb-controller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if lease.Spec.HolderIdentity == nil {
			return errors.New("nobody holds the lease")
		}
		// The holder is the pod's host name and a random number.
		holder, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
		if holder == "" || but[holder] {
			return fmt.Errorf("%q holds the lease", holder)
		}
		pod, err := w.kube.CoreV1().Pods(herald.Namespace).Get(w.ctx, holder, metav1.GetOptions{})
		if err != nil {
			return err
		}
		name = holder
		// Its own word: the pod's condition follows by the probe's period.
		resp, err := client.Get("http://" + pod.Status.PodIP + ":17472/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s is not ready: %s", holder, resp.Status)
		}
		return nil
	})
	return name
}

func (w *world) podIP(name string) string {
	w.Helper()
	pod, err := w.kube.CoreV1().Pods(herald.Namespace).Get(w.ctx, name, metav1.GetOptions{})
	w.must(err)
	return pod.Status.PodIP
}

// settle waits until the process has nothing left to do: less than 5 % of a
// processor during 6 s.
func (w *world) settle(p usage.Process) {
	w.Helper()
	const during, share = 6 * time.Second, 0.05
	before := 0.0
	w.until("the process comes to rest", 2*time.Minute, during, func() error {
		now, err := p.CPU()
		if err != nil {
			return err
		}
		used, first := now-before, before == 0
		if before = now; first || used > share*during.Seconds() {
			return fmt.Errorf("%.2f CPU-seconds in %s", used, during)
		}
		return nil
	})
}
