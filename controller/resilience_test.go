package main

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
)

// One Service cannot be written at the start, and others cannot be served. None
// of them keeps the loop from what is sound, nor from what happens later.
func TestServiceThatFailsAtTheStartHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/29")
		f.refuse = func(key service.Key) error {
			if key.Name == "stuck" {
				return errors.New("an admission webhook says no")
			}
			return nil
		}
		f.put("stuck")
		f.put("garbage", wants("soon"))
		f.put("outside", wants("192.0.2.1"))
		f.put("sound")
		rest(time.Second)
		begin(t, f)
		rest(time.Second)
		expect(t, f, map[string]string{"stuck": "", "garbage": "", "outside": "", "sound": "10.0.0.1"})
		f.put("later")
		rest(time.Second)
		f.remove("sound")
		rest(time.Second)
		expect(t, f, map[string]string{"later": "10.0.0.2"})
		f.put("last")
		rest(time.Second)
		expect(t, f, map[string]string{"last": "10.0.0.1"})
		if n := f.count("Service stuck"); n != 0 {
			t.Fatalf("the Service that cannot be written was, %d times", n)
		}
	})
}

// Kubernetes takes the class away together with the type. The Service is then one
// of no class, and all that it held is free.
func TestClassedServiceThatChangesItsTypeIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.class = "example.org/fast"
		classed := func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &f.class }
		f.putPool("main", "10.0.0.1/32")
		begin(t, f)
		f.put("plain")
		f.put("fast", classed)
		rest(time.Second)
		f.put("waiting", classed)
		rest(time.Second)
		expect(t, f, map[string]string{"plain": "", "fast": "10.0.0.1", "waiting": ""})
		f.put("fast", func(svc *corev1.Service) {
			svc.Spec.Type, svc.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil
		})
		rest(time.Second)
		expect(t, f, map[string]string{"plain": "", "fast": "", "waiting": "10.0.0.1"})
		if svc := f.get("fast"); marked(svc) {
			t.Errorf("something is left on the Service: %v %+v", svc.Annotations, svc.Status)
		}
		if n := f.count("Service plain"); n != 0 {
			t.Errorf("a Service without the class was written %d times", n)
		}
	})
}

// While the configuration cannot be read, the last one is in force and what was
// said of it stays said. It is read again without a new event.
func TestConfigurationThatCannotBeReadIsNotTakenForASoundOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		unreadable := func(err error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.unreadable = err
		}
		f.putPool("main", "10.0.0.0/29", "nonsense")
		l := begin(t, f)
		f.put("web")
		rest(2 * time.Second)
		expect(t, f, map[string]string{"web": "10.0.0.0"})

		unreadable(errors.New("the cache is gone"))
		f.putPool("main", "10.1.0.0/29")
		rest(10 * time.Second)
		expect(t, f, map[string]string{"web": "10.0.0.0"})
		if s := f.state().Status; s.Result != v1beta1.ConfigurationInvalid {
			t.Errorf("the state says %q of a configuration that nobody read", s.Result)
		}
		if n := testutil.ToFloat64(l.metrics.updateErrors); n < 5 || n > 15 {
			t.Errorf("%v failures are counted in ten seconds, want about one a second", n)
		}
		unreadable(nil)
		rest(3 * time.Second)
		expect(t, f, map[string]string{"web": "10.1.0.0"})
		if s := f.state().Status; s.Result != v1beta1.ConfigurationValid {
			t.Errorf("the state says %q of the new one", s.Result)
		}
	})
}

// At the start there is no last configuration: the process says so and ends,
// instead of working as if there were no pools.
func TestStartWithoutAConfigurationFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.unreadable = errors.New("the cache is gone")
		f.put("web", holding("main", "10.0.0.7"))
		m := newMetrics(prometheus.NewPedanticRegistry())
		log := slog.New(slog.DiscardHandler)
		l := &loop{cluster: f, inbox: f.inbox, metrics: m, log: log, mayWrite: f.mayWrite,
			events: newRecorder(f.createEvent, "controller-0", m.eventsDropped.Inc, log)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Start(ctx); !errors.Is(err, f.unreadable) {
			t.Errorf("it ended with %v, want %v", err, f.unreadable)
		}
		expect(t, f, map[string]string{"web": "10.0.0.7"})
		if n := f.count("Services"); n != 0 {
			t.Errorf("%d writes", n)
		}
	})
}
