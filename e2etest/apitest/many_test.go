//go:build lab

package apitest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// TestManyServices is 2,000 Services that wait for a pool, and then a new one
// after a restart. It checks that all are served; what it logs are figures of a
// machine that may do other things too, and budgets are for `make bench`.
func TestManyServices(t *testing.T) {
	const many = 2000
	clean(t)
	p := startController(t, "--log-level=info")
	p.ready()
	p.leads()
	makeServices(t, many)
	// The controller has seen them all, and says that there is no pool.
	says(t, fmt.Sprintf("many-%d", many-1), "NoPools")
	settle(t, many)
	cpu := p.cpu()

	served := countServed(t)
	start := time.Now()
	makePool(t, "main", "10.64.0.0/16")
	within(t, 3*time.Minute, "all have an address", func() error {
		if n := served.Load(); n != many {
			return fmt.Errorf("%d of %d", n, many)
		}
		return nil
	})
	t.Logf("all served after %.2f s", time.Since(start).Seconds())
	t.Logf("for %.2f CPU-seconds", p.cpu()-cpu)
	t.Logf("with %d MB resident at most, %d now", p.memory("VmHWM")/1024, p.memory("VmRSS")/1024)

	p.stop(syscall.SIGTERM)
	p = startController(t, "--log-level=info")
	p.ready()
	start = time.Now()
	makeService(t, "new", withoutNodePort)
	has(t, "new", "10.64.7.208")
	t.Logf("a new Service after a restart: %d ms from readiness", time.Since(start).Milliseconds())
	t.Logf("after a restart: %.2f CPU-seconds, %d MB", p.cpu(), p.memory("VmHWM")/1024)
}

// makeServices creates many Services, several at once.
func makeServices(t *testing.T, many int) {
	t.Helper()
	var next atomic.Int64
	errs := make(chan error)
	const hands = 16
	for range hands {
		go func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= many {
					errs <- nil
					return
				}
				_, err := world.client.CoreV1().Services(namespace).Create(t.Context(), serviceObject(fmt.Sprintf("many-%d", i), withoutNodePort), metav1.CreateOptions{})
				if err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range hands {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

// withoutNodePort spares the node ports, of which there are fewer.
func withoutNodePort(svc *corev1.Service) {
	no := false
	svc.Spec.AllocateLoadBalancerNodePorts = &no
}

// settle waits until every Service carries a condition.
func settle(t *testing.T, many int) {
	t.Helper()
	within(t, 3*time.Minute, "every Service is looked at", func() error {
		list, err := world.client.CoreV1().Services(namespace).List(t.Context(), metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		<-time.After(time.Second)
		n := 0
		for i := range list.Items {
			if assigned(&list.Items[i]) != nil {
				n++
			}
		}
		if n < many {
			return fmt.Errorf("%d of %d", n, many)
		}
		return nil
	})
}

// countServed counts the Services that come to have an address.
func countServed(t *testing.T) *atomic.Int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	list, err := world.client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	w, err := world.client.CoreV1().Services(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cancel)
	var served atomic.Int64
	go func() {
		seen := map[string]bool{}
		for e := range w.ResultChan() {
			svc, ok := e.Object.(*corev1.Service)
			if ok && e.Type == watch.Modified && !seen[svc.Name] && addresses(svc) != "" {
				seen[svc.Name] = true
				served.Add(1)
			}
		}
	}()
	return &served
}

// cpu is how many seconds of a processor the process has used.
func (p *process) cpu() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	ticks := 0
	// utime and stime, in ticks of 10 ms
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return float64(ticks) / 100
}

// memory is a figure of /proc/PID/status in KiB.
func (p *process) memory(name string) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				p.t.Fatal(err)
			}
			return n
		}
	}
	p.t.Fatalf("no %s", name)
	return 0
}
