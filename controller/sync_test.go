package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
)

// expect compares the addresses of Services.
func expect(t *testing.T, f *fakeCluster, want map[string]string) {
	t.Helper()
	for name, ip := range want {
		if got := f.addresses(name); got != ip {
			t.Errorf("%s has %q, want %q", name, got, ip)
		}
	}
}

func TestManyWaitersAreServedWithOneWriteEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		begin(t, f)
		const many = 2000
		for i := range many {
			f.put(fmt.Sprint("web-", i))
		}
		rest(5 * time.Second)
		if n := f.count("Services"); n != many {
			t.Fatalf("%d writes to say that there is no pool, want %d", n, many)
		}
		f.putPool("main", "10.0.0.0/16")
		rest(20 * time.Second)
		expect(t, f, map[string]string{"web-0": "10.0.0.0", "web-1": "10.0.0.1", "web-1999": "10.0.7.207"})
		if n := f.count("Services"); n != 2*many {
			t.Errorf("%d writes in all, want %d", n, 2*many)
		}
		if n := f.count("pool main"); n > 3 {
			t.Errorf("the pool's status was written %d times", n)
		}
		if got := f.pools["main"].Status; got.AssignedIPv4 != many || got.AvailableIPv4 != 1<<16-many {
			t.Errorf("status %+v", got)
		}
	})
}

// The cache is a second behind: the loop neither repeats its writes nor
// mistakes the old state for somebody's edit.
func TestSlowCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/30")
		begin(t, f)
		f.setLag(time.Second)
		f.put("web")
		rest(1100 * time.Millisecond)
		expect(t, f, map[string]string{"web": "10.0.0.0"})
		f.put("web", func(svc *corev1.Service) { svc.Labels = map[string]string{"a": "b"} })
		f.put("web", wants("10.0.0.2"))
		rest(10 * time.Second)
		expect(t, f, map[string]string{"web": "10.0.0.2"})
		if n := f.count("Service web"); n != 2 {
			t.Errorf("%d writes, want 2", n)
		}
	})
}

// A replica takes over before its cache has heard of its predecessor's last
// assignments: the address that only the API server knows of is not given away.
func TestTakeoverReadsWhatTheCacheHasNotHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.inbox.start()
		f.putPool("main", "10.0.0.0/30")
		f.put("served")
		f.put("waiting")
		rest(time.Second)
		f.setLag(10 * time.Second)
		f.put("served", holding("main", "10.0.0.0"))
		begin(t, f)
		rest(time.Second)
		expect(t, f, map[string]string{"served": "10.0.0.0", "waiting": "10.0.0.1"})
		rest(time.Minute)
		expect(t, f, map[string]string{"served": "10.0.0.0", "waiting": "10.0.0.1"})
		if got := f.reason("served"); got != "Assigned" {
			t.Errorf("the Service that was taken over says %q", got)
		}
	})
}

// Before the takeover a Service was deleted and made again, and the cache has yet
// to hear of either: when it hears of the deletion, the address of the new one is
// not given away.
func TestTakeoverWhileAServiceIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.inbox.start()
		f.putPool("main", "10.0.0.0/32")
		f.put("served")
		f.put("waiting")
		rest(time.Second)
		f.setLag(10 * time.Second)
		f.remove("served")
		rest(5 * time.Second)
		f.put("served", holding("main", "10.0.0.0"))
		begin(t, f)
		for range 20 {
			rest(time.Second)
			expect(t, f, map[string]string{"served": "10.0.0.0", "waiting": ""})
		}
		// A deletion that is none of the past counts.
		f.remove("served")
		rest(time.Minute)
		expect(t, f, map[string]string{"waiting": "10.0.0.0"})
	})
}

func TestConflictsAndFailuresAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		begin(t, f)
		fails := 7
		f.refuse = func(key service.Key) error {
			if key.Name == "unlucky" && fails > 0 {
				fails--
				return errors.New("the API server is away")
			}
			return nil
		}
		f.put("unlucky")
		rest(10 * time.Millisecond)
		f.put("lucky")
		rest(time.Second)
		expect(t, f, map[string]string{"unlucky": "", "lucky": "10.0.0.1"})
		rest(time.Minute)
		expect(t, f, map[string]string{"unlucky": "10.0.0.0", "lucky": "10.0.0.1"})

		// Somebody writes between our read and our write, a hundred times.
		f.refuse = nil
		for i := range 100 {
			f.put("unlucky", func(svc *corev1.Service) { svc.Labels = map[string]string{"n": fmt.Sprint(i)} })
			f.put("other", func(svc *corev1.Service) { svc.Labels = map[string]string{"n": fmt.Sprint(i)} })
			rest(time.Millisecond)
		}
		rest(time.Minute)
		expect(t, f, map[string]string{"unlucky": "10.0.0.0", "other": "10.0.0.2"})
		if n := f.count("Service other"); n != 1 {
			t.Errorf("%d writes, want 1", n)
		}
	})
}

// However often a Service changes while its writes fail, one retry is pending.
func TestRetriesDoNotMultiply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		begin(t, f)
		var tries atomic.Int64
		f.setRefuse(func(service.Key) error {
			tries.Add(1)
			return errors.New("the API server is away")
		})
		for i := range 100 {
			f.put("web", func(svc *corev1.Service) { svc.Labels = map[string]string{"n": fmt.Sprint(i)} })
			rest(100 * time.Millisecond)
		}
		rest(10 * time.Minute)
		before := tries.Load()
		rest(10 * time.Minute)
		if n := tries.Load() - before; n < 15 || n > 25 {
			t.Errorf("%d tries in ten minutes, want one every %s", n, lastRetry)
		}
		f.setRefuse(nil)
		rest(time.Minute)
		expect(t, f, map[string]string{"web": "10.0.0.0"})
	})
}

func TestGraceForPoolsThatWereNotSeenYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.put("web", holding("main", "10.0.0.7"))
		f.put("found", holding("late", "10.1.0.7"))
		rest(time.Second)
		begin(t, f)
		rest(5 * time.Second)
		expect(t, f, map[string]string{"web": "10.0.0.7", "found": "10.1.0.7"})
		if got := f.reason("web"); got != "PoolMissing" {
			t.Errorf("web says %q", got)
		}
		f.putPool("late", "10.1.0.0/24")
		f.put("new")
		rest(4 * time.Second)
		expect(t, f, map[string]string{"web": "10.0.0.7", "found": "10.1.0.7", "new": "10.1.0.0"})
		rest(2 * time.Second)
		expect(t, f, map[string]string{"web": "10.1.0.1", "found": "10.1.0.7"})
		f.removePool("late")
		rest(time.Second)
		expect(t, f, map[string]string{"web": "", "found": "", "new": ""})
	})
}

func TestReportsAreWrittenOnChangeOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24", "nonsense")
		begin(t, f)
		rest(3 * time.Second)
		if f.count("state") != 1 || f.count("pool main") != 1 {
			t.Fatalf("state written %d times, pool %d times; want once each", f.count("state"), f.count("pool main"))
		}
		if s := f.state().Status; s.Result != v1beta1.ConfigurationInvalid || s.ErrorSummary == "" {
			t.Errorf("state %+v", s)
		}
		if !slices.Contains(f.events, "IPAddressPool main ConfigurationError") {
			t.Errorf("events %q", f.events)
		}
		for range 10 {
			f.inbox.config()
			f.inbox.reports()
			rest(time.Second)
		}
		if f.count("state") != 1 || f.count("pool main") != 1 || len(f.events) != 1 {
			t.Errorf("state written %d times, pool %d times, events %q; want once each", f.count("state"), f.count("pool main"), f.events)
		}
		// A status that somebody edits is put right.
		f.mu.Lock()
		edited := f.pools["main"].DeepCopy()
		edited.Status.AvailableIPv4, edited.ResourceVersion = 1, f.next()
		f.pools["main"] = edited
		f.mu.Unlock()
		f.inbox.reports()
		rest(2 * time.Second)
		if got := f.pool("main").Status.AvailableIPv4; got != 256 {
			t.Errorf("available %d, want 256", got)
		}
		f.putPool("main", "10.0.0.0/24")
		rest(2 * time.Second)
		if s := f.state().Status; s.Result != v1beta1.ConfigurationValid || s.ErrorSummary != "" {
			t.Errorf("state %+v", s)
		}
	})
}

// An address that goes back to the pool is no longer counted, although nobody
// waited for it.
func TestPoolStatusFollowsWhatIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		begin(t, f)
		f.put("gone")
		f.put("internal")
		rest(5 * time.Second)
		if got := f.pool("main").Status.AssignedIPv4; got != 2 {
			t.Fatalf("assigned %d, want 2", got)
		}
		f.remove("gone")
		rest(5 * time.Second)
		if got := f.pool("main").Status.AssignedIPv4; got != 1 {
			t.Errorf("assigned %d after a Service was deleted, want 1", got)
		}
		f.put("internal", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
		rest(5 * time.Second)
		if got := f.pool("main").Status.AssignedIPv4; got != 0 {
			t.Errorf("assigned %d after the type changed, want 0", got)
		}
	})
}

func TestServicesOfOthersAreNotTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		foreign := "example.org/other"
		f.put("foreign", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = &foreign }, holding("main", "10.0.0.0"))
		f.put("plain", ofType(corev1.ServiceTypeClusterIP))
		f.put("left behind", ofType(corev1.ServiceTypeNodePort), holding("main", "10.0.0.9"))
		rest(time.Second)
		begin(t, f)
		rest(time.Minute)
		if f.count("Service foreign") != 0 || f.count("Service plain") != 0 {
			t.Error("a Service of others was written")
		}
		if svc := f.get("left behind"); len(svc.Status.LoadBalancer.Ingress) != 0 || len(svc.Annotations) != 0 {
			t.Errorf("what a former life left is still there: %+v", svc)
		}
	})
}

// Any history ends in one state: every Service that may have an address has
// one, nobody has another's, the status says what was decided, and it is quiet.
func TestAnyHistoryEndsWell(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				f := newFakeCluster()
				luck := rand.New(rand.NewPCG(seed, 2))
				f.refuse = func(service.Key) error {
					if luck.IntN(4) == 0 {
						return errors.New("bad luck")
					}
					return nil
				}
				f.lose = func(service.Key) error {
					if luck.IntN(8) == 0 {
						return errors.New("the answer got lost")
					}
					return nil
				}
				f.putPool("main", "10.0.0.0/29")
				l := begin(t, f)
				for range 200 {
					f.setLag(time.Duration(rnd.IntN(30)) * time.Millisecond)
					name := fmt.Sprint("web-", rnd.IntN(12))
					switch rnd.IntN(8) {
					case 0:
						f.remove(name)
					case 1:
						if f.get(name) != nil {
							f.put(name, ofType(corev1.ServiceTypeClusterIP))
						}
					case 2:
						f.put(name, wants(fmt.Sprint("10.0.0.", rnd.IntN(9))))
					case 3:
						f.putPool("main", fmt.Sprint("10.0.0.0/", 29+rnd.IntN(3)))
					default:
						f.put(name, ofType(corev1.ServiceTypeLoadBalancer))
					}
					time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
				}
				f.putPool("main", "10.0.0.0/29")
				rest(5 * time.Minute)
				judge(t, f, l)
			})
		})
	}
}

func judge(t *testing.T, f *fakeCluster, l *loop) {
	t.Helper()
	owner := map[string]string{}
	for key, svc := range f.live {
		ip := f.addresses(key.Name)
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			if ip != "" || marked(svc) {
				t.Errorf("%s is not served and has %q", key.Name, ip)
			}
			continue
		}
		if ip != "" && owner[ip] != "" {
			t.Errorf("%s and %s both have %s", key.Name, owner[ip], ip)
		}
		owner[ip] = key.Name
		d, ok := l.alloc.Decision(key)
		if !ok || joined(d.Addresses) != ip {
			t.Errorf("%s has %q, decided is %q", key.Name, ip, joined(d.Addresses))
		}
		if patch, err := patchFor(svc, outcomeOf(d), metav1.Now()); patch != nil || err != nil {
			t.Errorf("%s: left unwritten: %s %v", key.Name, patch, err)
		}
	}
	before := f.count("Services")
	rest(time.Minute)
	if n := f.count("Services"); n != before {
		t.Errorf("%d writes though nothing changes", n-before)
	}
}
