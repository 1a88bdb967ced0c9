package report

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

// fakeCluster is an API server with state. Reporters of several nodes may share
// it; each sees every change, at once or, while it lags, when it is let go.
type fakeCluster struct {
	mu       sync.Mutex
	version  int
	services map[service.Key]*corev1.Service
	statuses map[string]*v1beta1.ServiceL2Status
	bgp      map[string]*v1beta1.ServiceBGPStatus
	sessions map[string]*v1alpha1.BGPSessionStatus
	has      []string // the nodes of the cluster
	states   map[string]*v1beta1.ConfigurationState
	owners   map[string]types.UID
	// log has one line for each write.
	log []string
	// fail makes the next writes whose line starts with a key fail so often.
	fail map[string]int
	// lag holds back what the watchers are told.
	lag     bool
	held    []func()
	watches []handlers
}

func newFake(t *testing.T) *fakeCluster {
	c := &fakeCluster{
		services: map[service.Key]*corev1.Service{},
		statuses: map[string]*v1beta1.ServiceL2Status{},
		bgp:      map[string]*v1beta1.ServiceBGPStatus{},
		sessions: map[string]*v1alpha1.BGPSessionStatus{},
		states:   map[string]*v1beta1.ConfigurationState{},
		owners:   map[string]types.UID{},
		fail:     map[string]int{},
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the cluster's writes:\n%s", strings.Join(c.writes(), "\n"))
		}
	})
	return c
}

// writes returns the lines of all writes until now.
func (c *fakeCluster) writes() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.log)
}

// catchUp lets held notices go.
func (c *fakeCluster) catchUp() {
	c.mu.Lock()
	held := c.held
	c.held, c.lag = nil, false
	c.mu.Unlock()
	for _, f := range held {
		f()
	}
}

func (c *fakeCluster) setLag() {
	c.mu.Lock()
	c.lag = true
	c.mu.Unlock()
}

// tell passes a change to the watchers. mu is held and given back meanwhile,
// because they take their own locks.
func (c *fakeCluster) tell(f func(handlers)) {
	if c.lag {
		for _, h := range c.watches {
			c.held = append(c.held, func() { f(h) })
		}
		return
	}
	watches := slices.Clone(c.watches)
	c.mu.Unlock()
	for _, h := range watches {
		f(h)
	}
	c.mu.Lock()
}

// write notes a write, and fails it if the test asked for that. mu is held.
func (c *fakeCluster) write(format string, args ...any) error {
	line := fmt.Sprintf(format, args...)
	for prefix, n := range c.fail {
		if n > 0 && strings.HasPrefix(line, prefix) {
			c.fail[prefix]--
			return errors.New("the API server is away")
		}
	}
	c.log = append(c.log, line)
	return nil
}

func (c *fakeCluster) next() string {
	c.version++
	return strconv.Itoa(c.version)
}

func notFound(name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: "objects"}, name)
}

func (c *fakeCluster) watch(_ context.Context, to handlers) error {
	c.mu.Lock()
	c.watches = append(c.watches, to)
	services, statuses, states := c.services, c.statuses, c.states
	var first []func()
	for _, s := range services {
		first = append(first, func() { to.serviceSeen(s.DeepCopy()) })
	}
	for _, s := range statuses {
		s := s.DeepCopy()
		first = append(first, func() { to.statusSeen(s, false) })
	}
	for _, s := range c.bgp {
		s := slimmed(s)
		first = append(first, func() { to.bgpStatusSeen(s, false) })
	}
	for _, s := range c.sessions {
		s := s.DeepCopy()
		first = append(first, func() { to.sessionSeen(s, false) })
	}
	for _, s := range states {
		s := s.DeepCopy()
		first = append(first, func() { to.stateSeen(s, false) })
	}
	c.mu.Unlock()
	for _, f := range first {
		f()
	}
	return nil
}

func (c *fakeCluster) owner(_ context.Context, name string) (metav1.OwnerReference, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	uid, ok := c.owners[name]
	if !ok {
		return metav1.OwnerReference{}, notFound(name)
	}
	return metav1.OwnerReference{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "speaker", UID: uid}, nil
}

func (c *fakeCluster) service(_ context.Context, key service.Key) (*corev1.Service, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.services[key]; ok {
		return s.DeepCopy(), nil
	}
	return nil, notFound(key.Name)
}

func (c *fakeCluster) createStatus(_ context.Context, s *v1beta1.ServiceL2Status) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("create %s", s.Name); err != nil {
		return err
	}
	if _, ok := c.statuses[s.Name]; ok {
		return apierrors.NewAlreadyExists(schema.GroupResource{}, s.Name)
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), v1beta1.ServiceL2StatusStatus{}
	s.UID = types.UID("uid-" + s.ResourceVersion)
	c.putStatus(s)
	return nil
}

func (c *fakeCluster) putStatus(s *v1beta1.ServiceL2Status) {
	c.statuses[s.Name] = s
	seen := s.DeepCopy()
	c.tell(func(h handlers) { h.statusSeen(seen, false) })
}

func (c *fakeCluster) setStatus(_ context.Context, name string, st v1beta1.ServiceL2StatusStatus) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("status %s %s %v", name, st.Node, st.Interfaces); err != nil {
		return "", err
	}
	s, ok := c.statuses[name]
	if !ok {
		return "", notFound(name)
	}
	if s.Status.Node != "" && s.Status.Node != st.Node {
		return "", errors.New("node cannot be changed after it was set")
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), st
	c.putStatus(s)
	return s.ResourceVersion, nil
}

func (c *fakeCluster) deleteStatus(_ context.Context, name string, uid types.UID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("delete %s", name); err != nil {
		return err
	}
	s, ok := c.statuses[name]
	if !ok {
		return notFound(name)
	}
	if uid != "" && uid != s.UID {
		return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("the UID is another"))
	}
	delete(c.statuses, name)
	s = s.DeepCopy()
	s.ResourceVersion = c.next()
	c.tell(func(h handlers) { h.statusSeen(s, true) })
	return nil
}

func (c *fakeCluster) setCondition(_ context.Context, key service.Key, uid types.UID, cond *metav1.Condition) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	what := "none"
	if cond != nil {
		what = string(cond.Status) + " " + cond.Reason
	}
	if err := c.write("condition %s %s", key, what); err != nil {
		return "", err
	}
	s, ok := c.services[key]
	if !ok || s.UID != uid {
		return "", notFound(key.Name)
	}
	s = s.DeepCopy()
	s.Status.Conditions = slices.DeleteFunc(s.Status.Conditions, func(c metav1.Condition) bool { return c.Type == ConditionAnnounced })
	if cond != nil {
		s.Status.Conditions = append(s.Status.Conditions, *cond)
	}
	c.putService(s)
	return s.ResourceVersion, nil
}

// putService stores a Service and tells of it. mu is held.
func (c *fakeCluster) putService(s *corev1.Service) {
	s.ResourceVersion = c.next()
	c.services[service.Key{Namespace: s.Namespace, Name: s.Name}] = s
	seen := s.DeepCopy()
	c.tell(func(h handlers) { h.serviceSeen(seen) })
}

func (c *fakeCluster) serviceEvent(_ context.Context, svc *corev1.Service, n note) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write("event %s/%s %s: %s", svc.Namespace, svc.Name, n.reason, n.text)
}

func (c *fakeCluster) createState(_ context.Context, s *v1beta1.ConfigurationState) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("create %s", s.Name); err != nil {
		return err
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), v1beta1.ConfigurationStateStatus{}
	c.putState(s)
	return nil
}

func (c *fakeCluster) putState(s *v1beta1.ConfigurationState) {
	c.states[s.Name] = s
	seen := s.DeepCopy()
	c.tell(func(h handlers) { h.stateSeen(seen, false) })
}

func (c *fakeCluster) setState(_ context.Context, name string, st v1beta1.ConfigurationStateStatus) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.write("state %s %s", name, st.Result); err != nil {
		return "", err
	}
	s, ok := c.states[name]
	if !ok {
		return "", notFound(name)
	}
	s = s.DeepCopy()
	s.ResourceVersion, s.Status = c.next(), st
	c.putState(s)
	return s.ResourceVersion, nil
}

func (c *fakeCluster) problemEvent(_ context.Context, p config.Problem) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.write("event %s %s", p.Kind, sentence(p))
}

// addService creates a LoadBalancer Service.
func (c *fakeCluster) addService(name string) service.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := service.Key{Namespace: "default", Name: name}
	c.putService(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID("uid-" + name), Generation: 1}})
	return key
}

func (c *fakeCluster) condition(key service.Key) metav1.Condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.services[key]; s != nil {
		if cond := announced(s); cond != nil {
			return *cond
		}
	}
	return metav1.Condition{}
}

// status returns the one ServiceL2Status of a Service.
func (c *fakeCluster) status(key service.Key) (v1beta1.ServiceL2StatusStatus, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found v1beta1.ServiceL2StatusStatus
	n := 0
	for _, s := range c.statuses {
		if s.Labels[labelServiceName] == key.Name && s.Labels[labelServiceNamespace] == key.Namespace {
			found, n = s.Status, n+1
		}
	}
	return found, n
}

// running is a Reporter of one node on the fake.
type running struct {
	*Reporter
	reg     *prometheus.Registry
	isFirst *atomic.Bool
	alive   *atomic.Pointer[[]string] // nil while it cannot be known
	stop    func()
}

// start runs the Reporter of a node whose pod has an owner of this UID.
func (c *fakeCluster) start(t *testing.T, node, owner string, first bool) *running {
	t.Helper()
	c.mu.Lock()
	c.owners["speaker-"+node] = types.UID(owner)
	c.mu.Unlock()
	reg := prometheus.NewPedanticRegistry()
	isFirst := &atomic.Bool{}
	isFirst.Store(first)
	alive := &atomic.Pointer[[]string]{}
	r := newReporter(Config{Node: node, Pod: "speaker-" + node, Namespace: "herald", Metrics: reg, First: isFirst.Load, Alive: func() ([]string, bool) {
		if nodes := alive.Load(); nodes != nil {
			return *nodes, true
		}
		return nil, false
	}}, c)
	return &running{Reporter: r, reg: reg, isFirst: isFirst, alive: alive, stop: runUntil(t, r)}
}

// runUntil runs a Reporter until the returned function is called, or the test ends.
func runUntil(t *testing.T, r *Reporter) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// eventually polls until ok, and fails after a bound that no sound run meets.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not within 30 s: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// quiet waits until every Reporter has nothing queued and in work.
func quiet(t *testing.T, c *fakeCluster, rs ...*running) {
	t.Helper()
	last, since := -1, time.Now()
	eventually(t, "nothing more is written", func() bool {
		n := len(c.writes())
		for _, r := range rs {
			n += r.queue.Len() << 20
		}
		if n != last || n >= 1<<20 {
			last, since = n, time.Now()
		}
		return time.Since(since) > 100*time.Millisecond
	})
}
