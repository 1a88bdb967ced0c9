package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/internal/status"
)

// fakeCluster is an API server whose changes reach the cache after a lag.
type fakeCluster struct {
	inbox *inbox
	lag   time.Duration
	// fenced is true while the replica may not write; leaseLeft is how long a
	// write may take, 0 for as long as it likes.
	fenced    atomic.Bool
	leaseLeft atomic.Int64
	// refuse, if set, is asked before each write of a Service; after that an
	// answer may get lost.
	refuse, lose func(key service.Key) error

	// refuseReport, if set, is asked before each write of a pool's status.
	refuseReport func() error

	// class is what the loop is started with.
	class string

	mu      sync.Mutex // guards what follows
	version int
	// unreadable, if set, is why the configuration cannot be read.
	unreadable error
	live       map[service.Key]*corev1.Service
	cache      map[service.Key]*corev1.Service
	// shown is the version up to which the cache knows a Service.
	shown   map[service.Key]int
	pools   map[string]*v1beta1.IPAddressPool
	written *v1beta1.ConfigurationState
	events  []string
	// writes counts the writes that succeeded, by what they were on.
	writes map[string]int
	// doubled are the addresses that a write gave to a second Service while
	// the first still showed them, and that the two do not share.
	doubled []string
}

func newFakeCluster() *fakeCluster {
	return &fakeCluster{
		inbox: newInbox(), lag: 5 * time.Millisecond,
		live: map[service.Key]*corev1.Service{}, cache: map[service.Key]*corev1.Service{},
		shown: map[service.Key]int{},
		pools: map[string]*v1beta1.IPAddressPool{}, writes: map[string]int{},
	}
}

func (f *fakeCluster) mayWrite(now time.Time) (time.Time, bool) {
	left := time.Duration(f.leaseLeft.Load())
	if left == 0 {
		left = time.Hour
	}
	return now.Add(left), !f.fenced.Load()
}

func (f *fakeCluster) next() string {
	f.version++
	return strconv.Itoa(f.version)
}

// show brings one Service to the cache as it is now, after the lag.
func (f *fakeCluster) show(key service.Key) {
	var now *corev1.Service
	if svc := f.live[key]; svc != nil {
		now = svc.DeepCopy()
	}
	at := f.version
	time.AfterFunc(f.lag, func() {
		f.mu.Lock()
		if f.shown[key] > at {
			// A watch tells in order; this was overtaken and is old news.
			f.mu.Unlock()
			return
		}
		f.shown[key] = at
		if now == nil {
			delete(f.cache, key)
		} else {
			f.cache[key] = now
		}
		f.mu.Unlock()
		if now == nil {
			f.inbox.deletedService(key, strconv.Itoa(at))
			return
		}
		f.inbox.service(key)
	})
}

// put creates or changes a Service as its owner.
func (f *fakeCluster) put(name string, change ...func(*corev1.Service)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := service.Key{Namespace: "apps", Name: name}
	svc := f.live[key]
	if svc == nil {
		svc = &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "apps", Name: name, UID: types.UID("uid-" + f.next()), CreationTimestamp: metav1.NewTime(time.Unix(int64(f.version), 0))},
			Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.96.0.1"}, Ports: []corev1.ServicePort{{Port: 80}}},
		}
	} else {
		svc = svc.DeepCopy()
	}
	for _, c := range change {
		c(svc)
	}
	svc.ResourceVersion = f.next()
	f.live[key] = svc
	f.show(key)
}

func (f *fakeCluster) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := service.Key{Namespace: "apps", Name: name}
	delete(f.live, key)
	f.next()
	f.show(key)
}

func (f *fakeCluster) putPool(name string, ranges ...string) {
	f.mu.Lock()
	pool := &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "metallb-system", ResourceVersion: f.next()}}
	for _, r := range ranges {
		pool.Spec.Addresses = append(pool.Spec.Addresses, v1beta1.AddressRange(r))
	}
	f.pools[name] = pool
	f.mu.Unlock()
	f.inbox.config()
}

func (f *fakeCluster) removePool(name string) {
	f.mu.Lock()
	delete(f.pools, name)
	f.mu.Unlock()
	f.inbox.config()
}

// get returns a Service as the API server has it.
func (f *fakeCluster) get(name string) *corev1.Service {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.live[service.Key{Namespace: "apps", Name: name}]
}

// addresses returns the addresses in a Service's status, joined.
func (f *fakeCluster) addresses(name string) string {
	svc := f.get(name)
	if svc == nil {
		return "(gone)"
	}
	var list []string
	for _, i := range svc.Status.LoadBalancer.Ingress {
		list = append(list, i.IP)
	}
	return strings.Join(list, ",")
}

func (f *fakeCluster) reason(name string) string {
	c := status.Find(f.get(name).Status.Conditions, status.Assigned)
	if c == nil {
		return ""
	}
	return c.Reason
}

func (f *fakeCluster) count(what string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes[what]
}

func (f *fakeCluster) synced(context.Context) error { return nil }

func (f *fakeCluster) liveServices(_ context.Context, each func(*corev1.Service)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, svc := range f.live {
		each(svc.DeepCopy())
	}
	return nil
}

func (f *fakeCluster) service(key service.Key) *corev1.Service {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cache[key]
}

func (f *fakeCluster) pool(name string) *v1beta1.IPAddressPool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pools[name]
}

func (f *fakeCluster) state() *v1beta1.ConfigurationState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.written
}

func (f *fakeCluster) namespaceLabels(string) (labels.Set, bool) { return nil, true }

func (f *fakeCluster) namespaces() (map[string]labels.Set, error) {
	return map[string]labels.Set{"apps": nil}, nil
}

func (f *fakeCluster) objects() (config.Objects, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.unreadable != nil {
		return config.Objects{}, f.unreadable
	}
	var o config.Objects
	for _, p := range f.pools {
		o.Pools = append(o.Pools, *p)
	}
	return o, nil
}

func (f *fakeCluster) patchService(ctx context.Context, key service.Key, patch []byte) (string, error) {
	time.Sleep(time.Millisecond)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if f.refuse != nil {
		if err := f.refuse(key); err != nil {
			return "", err
		}
	}
	svc := f.live[key]
	if svc == nil {
		return "", apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, key.Name)
	}
	var p struct {
		Metadata struct{ ResourceVersion string }
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return "", err
	}
	if p.Metadata.ResourceVersion != svc.ResourceVersion {
		return "", apierrors.NewConflict(schema.GroupResource{Resource: "services"}, key.Name, errors.New("changed"))
	}
	before, err := json.Marshal(svc)
	if err != nil {
		return "", err
	}
	var named map[string]any
	if err := json.Unmarshal(patch, &named); err != nil {
		return "", err
	}
	if _, says := named["status"]; !says {
		return svc.ResourceVersion, nil // nothing changes
	}
	after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.Service{})
	if err != nil {
		return "", err
	}
	next := &corev1.Service{}
	if err := json.Unmarshal(after, next); err != nil {
		return "", err
	}
	next.ResourceVersion = f.next()
	f.compareWithOthers(key, svc, next)
	f.live[key] = next
	f.writes["Service "+key.Name]++
	f.writes["Services"]++
	f.show(key)
	if f.lose != nil {
		if err := f.lose(key); err != nil {
			return "", err
		}
	}
	return next.ResourceVersion, nil
}

// compareWithOthers notes the addresses that a write newly shows although
// another Service shows them.
func (f *fakeCluster) compareWithOthers(key service.Key, before, after *corev1.Service) {
	shows := func(svc *corev1.Service, ip string) bool {
		return slices.ContainsFunc(svc.Status.LoadBalancer.Ingress, func(i corev1.LoadBalancerIngress) bool { return i.IP == ip })
	}
	for _, i := range after.Status.LoadBalancer.Ingress {
		if shows(before, i.IP) {
			continue
		}
		for otherKey, other := range f.live {
			if otherKey == key || other.Spec.Type != corev1.ServiceTypeLoadBalancer || !shows(other, i.IP) {
				continue
			}
			if a, b := service.Parse(after), service.Parse(other); a.SharingKey == "" || a.SharingKey != b.SharingKey {
				f.doubled = append(f.doubled, fmt.Sprintf("%s was written for %s while %s showed it", i.IP, key.Name, otherKey.Name))
			}
		}
	}
}

func (f *fakeCluster) patchPool(_ context.Context, name string, s v1beta1.IPAddressPoolStatus) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuseReport != nil {
		if err := f.refuseReport(); err != nil {
			return "", err
		}
	}
	pool := f.pools[name].DeepCopy()
	pool.Status, pool.ResourceVersion = s, f.next()
	f.pools[name] = pool
	f.writes["pool "+name]++
	f.inbox.reports()
	return pool.ResourceVersion, nil
}

func (f *fakeCluster) createState(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.written = &v1beta1.ConfigurationState{ObjectMeta: metav1.ObjectMeta{Name: "controller", ResourceVersion: f.next()}}
	return nil
}

func (f *fakeCluster) patchState(_ context.Context, s v1beta1.ConfigurationStateStatus) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state := f.written.DeepCopy()
	state.Status, state.ResourceVersion = s, f.next()
	f.written = state
	f.writes["state"]++
	f.inbox.reports()
	return state.ResourceVersion, nil
}

func (f *fakeCluster) createEvent(_ context.Context, e *eventsv1.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, fmt.Sprintf("%s %s %s", e.Regarding.Kind, e.Regarding.Name, e.Reason))
	return nil
}

// begin starts a loop that ends with the test, and lets it settle.
func begin(t *testing.T, f *fakeCluster) *loop {
	t.Helper()
	return beginLogging(t, f, slog.New(slog.DiscardHandler))
}

func beginLogging(t *testing.T, f *fakeCluster, log *slog.Logger) *loop {
	t.Helper()
	m := newMetrics(prometheus.NewPedanticRegistry())
	l := &loop{
		cluster: f, inbox: f.inbox, metrics: m, log: log, mayWrite: f.mayWrite, class: f.class,
		events: newRecorder(f.createEvent, "controller-0", m.eventsDropped.Inc, log),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, d := range f.doubled {
			t.Error(d)
		}
	})
	synctest.Wait()
	return l
}

// rest lets virtual time pass.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func wants(ip string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{service.AnnotationAddresses: ip}
	}
}

func ofType(kind corev1.ServiceType) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Type = kind
		if kind != corev1.ServiceTypeLoadBalancer {
			// So does the API server.
			svc.Status.LoadBalancer = corev1.LoadBalancerStatus{}
		}
	}
}

func holding(pool string, ips ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Annotations = map[string]string{service.AnnotationFromPool: pool}
		svc.Status.LoadBalancer.Ingress = nil
		for _, ip := range ips {
			svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: netip.MustParseAddr(ip).String()})
		}
	}
}

func (f *fakeCluster) setLag(lag time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lag = lag
}

func (f *fakeCluster) setRefuse(refuse func(service.Key) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = refuse
}
