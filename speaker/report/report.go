package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

const (
	workers = 4
	// A node that starts, or takes over for another, may have thousands of
	// objects to write. They must not crowd out the writes that assign
	// addresses.
	writesPerSecond = 200
	writesBurst     = 400
	// While the ring is split, both sides may reach the API server, and each
	// believes that the other's word is wrong. The pause before the next attempt
	// to have the last word doubles between these.
	contestPause    = 500 * time.Millisecond
	maxContestPause = time.Minute
	// What was just told to announce has this long to do so.
	reachWithin = time.Second
	// When pods move, the nodes that advertise a Service change one by one. What
	// is told of it follows when that is over.
	settleWithin = time.Second
	// What is dropped and what is changed at once is told at once.
	changeWithin = 20 * time.Millisecond
)

// Config is what a Reporter needs. Logger and Metrics may be nil.
type Config struct {
	Node, Pod, Namespace string
	// Client writes; it reads from the cache.
	Client client.Client
	// Reader reads this pod once, whole, from the API server.
	Reader client.Reader
	// Cache tells what is there. Give its manager CacheOptions.
	Cache cache.Informers
	// First says, when it is asked, whether this node is the one of all that
	// does what one must do: it writes events on the objects of the
	// configuration, and removes what is left of nodes that are no more. Nil
	// means never.
	First func() bool
	// Unreached says why no interface announces an address that this node was
	// told to announce; "" if one does. Nil means that all do. See Reached.
	Unreached func(netip.Addr) string
	Logger    *slog.Logger
	Metrics   prometheus.Registerer
}

// Reporter is the room. Its methods may be called from any goroutine, before,
// during and after Run, and never block.
type Reporter struct {
	me      identity
	podName string
	cluster cluster
	log     *slog.Logger
	metrics *metrics
	limit   flowcontrol.RateLimiter
	queue   workqueue.TypedRateLimitingInterface[service.Key]
	// contests counts how often others overruled this node on a Service.
	contests workqueue.TypedRateLimiter[service.Key]
	now      func() time.Time
	first    func() bool
	// unreached is Config.Unreached.
	unreached func(netip.Addr) string

	config chan struct{} // the configuration's problems, or their object, changed
	reach  chan struct{} // what is announced may have changed

	mu      sync.Mutex // guards the rest
	planned bool       // the plan has spoken: what it does not name is a leftover
	entries map[service.Key]*entry
	// starting are the decisions that have yet to be made: what an earlier life
	// of this speaker told stays as it is. It is nil when there are none.
	starting map[desired.Subject]struct{}
	// problems of the configuration, once it was compiled.
	problems []config.Problem
	compiled bool
	state    *v1beta1.ConfigurationState

	sessions sessionMemory // has its own lock
}

// cluster is the API server. Reads come from a cache, which may lag behind the
// writes; those return the object's new version.
type cluster interface {
	// watch returns when everything that is there has been seen.
	watch(ctx context.Context, to handlers) error
	// owner returns what owns the objects of the pod of that name.
	owner(ctx context.Context, pod string) (metav1.OwnerReference, error)
	service(ctx context.Context, key service.Key) (*corev1.Service, error)

	createStatus(ctx context.Context, s *v1beta1.ServiceL2Status) error
	setStatus(ctx context.Context, name string, s v1beta1.ServiceL2StatusStatus) (version string, err error)
	// deleteStatus deletes the object that has the UID; an empty one means any.
	deleteStatus(ctx context.Context, name string, uid types.UID) error

	createBGPStatus(ctx context.Context, s *v1beta1.ServiceBGPStatus) error
	setBGPStatus(ctx context.Context, name string, s v1beta1.ServiceBGPStatusStatus) (version string, err error)
	deleteBGPStatus(ctx context.Context, name string, uid types.UID) error

	// setCondition writes, or with nil takes away, the Service's condition.
	setCondition(ctx context.Context, key service.Key, uid types.UID, c *metav1.Condition) (version string, err error)
	serviceEvent(ctx context.Context, svc *corev1.Service, n note) error

	createSession(ctx context.Context, s *v1alpha1.BGPSessionStatus) error
	setSession(ctx context.Context, name string, s v1alpha1.BGPSessionStatusStatus) (version string, err error)
	deleteSession(ctx context.Context, name string, uid types.UID) error
	// peerEvent writes an event on a BGPPeer.
	peerEvent(ctx context.Context, peer string, n note) error
	// strandedSessions are the BGPSessionStatus objects of nodes that the
	// cluster no longer has.
	strandedSessions(ctx context.Context) ([]metav1.ObjectMeta, error)

	createState(ctx context.Context, s *v1beta1.ConfigurationState) error
	setState(ctx context.Context, name string, s v1beta1.ConfigurationStateStatus) (version string, err error)
	problemEvent(ctx context.Context, p config.Problem) error
}

// handlers are told what is there. They do not block; gone says that the
// object was deleted.
type handlers interface {
	serviceSeen(svc *corev1.Service)
	statusSeen(s *v1beta1.ServiceL2Status, gone bool)
	bgpStatusSeen(s *v1beta1.ServiceBGPStatus, gone bool)
	sessionSeen(s *v1alpha1.BGPSessionStatus, gone bool)
	stateSeen(s *v1beta1.ConfigurationState, gone bool)
}

// New returns a Reporter that writes nothing until Run.
func New(cfg Config) (*Reporter, error) {
	if cfg.Node == "" || cfg.Pod == "" || cfg.Namespace == "" {
		return nil, errors.New("report: the names of the node, the pod and the namespace are mandatory")
	}
	return newReporter(cfg, &kube{
		client: cfg.Client, reader: cfg.Reader, cache: cfg.Cache, node: cfg.Node, namespace: cfg.Namespace,
	}), nil
}

func newReporter(cfg Config, c cluster) *Reporter {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Reporter{
		me:      identity{node: cfg.Node, namespace: cfg.Namespace},
		podName: cfg.Pod,
		cluster: c,
		log:     cfg.Logger,
		limit:   flowcontrol.NewTokenBucketRateLimiter(writesPerSecond, writesBurst),
		now:     time.Now,
		first:   cfg.First,
		config:  make(chan struct{}, 1),
		reach:   make(chan struct{}, 1),
		entries: map[service.Key]*entry{},
		sessions: sessionMemory{
			wake: make(chan struct{}, 1), sweep: make(chan struct{}, 1), entries: map[string]*sessionEntry{},
		},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[service.Key](100*time.Millisecond, 30*time.Second)),
		contests: workqueue.NewTypedItemExponentialFailureRateLimiter[service.Key](contestPause, maxContestPause),
	}
	if r.unreached = cfg.Unreached; r.unreached == nil {
		r.unreached = func(netip.Addr) string { return "" }
	}
	r.metrics = newMetrics(cfg.Metrics, r)
	return r
}

// Changed takes the plan's changed Decisions and the Services that it no
// longer knows. The first call holds every Service.
func (r *Reporter) Changed(changed []desired.Decision, removed []service.Key) {
	r.metrics.updates.Add(float64(len(changed) + len(removed)))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range changed {
		r.change(changed[i])
	}
	for _, key := range removed {
		r.noteStarting(desired.Subject{Service: key, Protocol: desired.Layer2}, false)
		r.noteStarting(desired.Subject{Service: key, Protocol: desired.BGP}, false)
		if e := r.entries[key]; e != nil {
			e.set(desired.Layer2, nil)
			e.set(desired.BGP, nil)
			r.queue.Add(key)
		}
	}
	if !r.planned {
		r.planned = true
		for key, e := range r.entries {
			for _, s := range e.statuses.objects {
				if r.mine(s) {
					r.queue.Add(key)
				}
			}
		}
	}
}

// Drop takes Decisions that are no more though their Services are still there.
// It is called beside Changed.
func (r *Reporter) Drop(subjects []desired.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range subjects {
		r.noteStarting(s, false)
		if e := r.entries[s.Service]; e != nil {
			e.set(s.Protocol, nil)
			r.queue.AddAfter(s.Service, changeWithin)
		}
	}
}

// BecameFirst is called after Changed when this node is from now on the first:
// it clears up, and tells of problems that nobody told of yet.
func (r *Reporter) BecameFirst() {
	r.sweep()
	signal(r.config)
	signal(r.sessions.sweep)
}

// sweep looks at everything that is there, if this node is the first.
func (r *Reporter) sweep() {
	if !r.isFirst() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, e := range r.entries {
		if len(e.statuses.objects) > 0 || len(e.bgpStatuses.objects) > 0 {
			r.queue.Add(key)
		}
	}
}

// change takes one Decision. mu is held.
func (r *Reporter) change(d desired.Decision) {
	r.noteStarting(desired.Subject{Service: d.Service, Protocol: d.Protocol}, d.Reason == reason.Starting)
	e := r.entries[d.Service]
	if e == nil && !d.Announce && !d.Reports {
		return
	}
	e = r.entry(d.Service)
	moved := d.Protocol == desired.BGP && e.bgp != nil && e.bgp.Reports && d.Reports &&
		len(e.bgp.Advertisers) > 0 && len(d.Advertisers) > 0
	e.set(d.Protocol, &d)
	if !e.reports() {
		e.condition = nil
	}
	r.contests.Forget(d.Service)
	if moved {
		r.queue.AddAfter(d.Service, settleWithin)
		return
	}
	r.queue.Add(d.Service)
}

// noteStarting notes whether a decision has yet to be made. mu is held.
func (r *Reporter) noteStarting(s desired.Subject, starting bool) {
	switch {
	case starting && r.starting == nil:
		r.starting = map[desired.Subject]struct{}{s: {}}
	case starting:
		r.starting[s] = struct{}{}
	default:
		if delete(r.starting, s); len(r.starting) == 0 {
			r.starting = nil // a map does not shrink
		}
	}
}

// isStarting tells whether a decision has yet to be made. mu is held.
func (r *Reporter) isStarting(key service.Key, p desired.Protocol) bool {
	_, starting := r.starting[desired.Subject{Service: key, Protocol: p}]
	return starting
}

// Reconsider is called when the ring has changed: who disagreed with this node
// may agree now, so what is contested is tried again at once.
func (r *Reporter) Reconsider() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.entries {
		if r.contests.NumRequeues(key) > 0 {
			r.contests.Forget(key)
			r.queue.Add(key)
		}
	}
}

// contested tries again to have the last word on key, the later the more often
// somebody overruled it.
func (r *Reporter) contested(key service.Key) { r.queue.AddAfter(key, r.contests.When(key)) }

// SetProblems takes what is wrong with the configuration, which was thereby
// compiled.
func (r *Reporter) SetProblems(problems []config.Problem) {
	r.metrics.config(problems)
	r.mu.Lock()
	r.problems, r.compiled = slices.Clone(problems), true
	r.mu.Unlock()
	signal(r.config)
}

// Run writes until ctx ends. It is called once.
func (r *Reporter) Run(ctx context.Context) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		var err error
		if r.me.owner, err = r.cluster.owner(ctx, r.podName); err == nil {
			break
		}
		r.log.Warn("nothing is reported before the speaker's own pod is known", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
	if err := r.cluster.watch(ctx, r); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("watch what is reported: %w", err)
	}
	r.sweep() // of what was not seen yet when this node became the first
	var wg sync.WaitGroup
	wg.Go(func() { r.runConfig(ctx) })
	wg.Go(func() { r.runReach(ctx) })
	wg.Go(func() { r.runSessions(ctx) })
	wg.Go(func() { r.runSweep(ctx) })
	for range workers {
		wg.Go(func() {
			for r.step(ctx) {
			}
		})
	}
	<-ctx.Done()
	r.queue.ShutDown()
	wg.Wait()
	return nil
}

// step takes one Service from the queue and brings its objects up to date.
func (r *Reporter) step(ctx context.Context) bool {
	key, quit := r.queue.Get()
	if quit {
		return false
	}
	defer r.queue.Done(key)
	if err := r.reconcile(ctx, key); err != nil {
		if ctx.Err() == nil {
			r.metrics.failures.Inc()
			r.log.Warn("a Service could not be reported on; it is tried again", "service", key.String(), "err", err)
		}
		r.queue.AddRateLimited(key)
		return true
	}
	r.queue.Forget(key)
	return true
}

func (r *Reporter) reconcile(ctx context.Context, key service.Key) error {
	svc, err := r.cluster.service(ctx, key)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read the Service: %w", err)
	}
	f, ok := r.facts(key, svc)
	if !ok {
		return nil
	}
	w := r.me.decide(f, metav1.NewTime(r.now()))
	return r.apply(ctx, key, svc, w)
}

// apply carries out w. It stops at the first error; what is left is found
// again by the next attempt.
func (r *Reporter) apply(ctx context.Context, key service.Key, svc *corev1.Service, w writes) error {
	if w.replace != "" {
		if err := r.remove(ctx, key, w.replace); err != nil {
			return err
		}
	}
	if w.create != nil {
		if err := r.write(ctx, "create ServiceL2Status", func() error { return r.cluster.createStatus(ctx, w.create) }, apierrors.IsAlreadyExists); err != nil {
			return err
		}
	}
	if w.status != nil {
		var version string
		err := r.write(ctx, "write ServiceL2Status", func() (err error) {
			version, err = r.cluster.setStatus(ctx, w.statusName, *w.status)
			return err
		}, nil)
		if err != nil {
			return err
		}
		r.noteStatus(key, w, version)
	}
	for _, name := range w.remove {
		if err := r.remove(ctx, key, name); err != nil {
			return err
		}
	}
	if err := r.applyBGP(ctx, key, w.bgp); err != nil {
		return err
	}
	if err := r.applyCondition(ctx, key, svc, w); err != nil {
		return err
	}
	for _, e := range w.events {
		// An event is not worth a second condition: without a place that remembers
		// it, a retry could only repeat it.
		if err := r.write(ctx, "write an event", func() error { return r.cluster.serviceEvent(ctx, svc, e) }, nil); err != nil && ctx.Err() == nil {
			r.log.Warn("an event was lost", "service", key.String(), "reason", e.reason, "err", err)
		}
	}
	return nil
}

// applyBGP carries out what concerns the ServiceBGPStatus.
func (r *Reporter) applyBGP(ctx context.Context, key service.Key, w bgpWrites) error {
	name := bgpStatusName(key)
	if w.replace {
		if err := r.removeBGP(ctx, key, name); err != nil {
			return err
		}
	}
	if w.create != nil {
		if err := r.write(ctx, "create ServiceBGPStatus", func() error { return r.cluster.createBGPStatus(ctx, w.create) }, apierrors.IsAlreadyExists); err != nil {
			return err
		}
	}
	if w.status != nil {
		var version string
		err := r.write(ctx, "write ServiceBGPStatus", func() (err error) {
			version, err = r.cluster.setBGPStatus(ctx, name, *w.status)
			return err
		}, nil)
		if err != nil {
			return err
		}
		r.noteBGPStatus(key, w, version)
	}
	for _, name := range w.remove {
		if err := r.removeBGP(ctx, key, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reporter) applyCondition(ctx context.Context, key service.Key, svc *corev1.Service, w writes) error {
	var version string
	if w.condition != nil || w.forget {
		err := r.write(ctx, "write the Announced condition", func() (err error) {
			version, err = r.cluster.setCondition(ctx, key, r.uid(key), w.condition)
			return err
		}, replacedOrGone)
		if err != nil {
			return err
		}
	}
	r.noteCondition(key, svc, w, version)
	return nil
}

// remove deletes the object that is known by that name, and no other that took
// its place meanwhile.
func (r *Reporter) remove(ctx context.Context, key service.Key, name string) error {
	uid := r.statusUID(key, name)
	err := r.write(ctx, "delete ServiceL2Status", func() error { return r.cluster.deleteStatus(ctx, name, uid) }, replacedOrGone)
	if err != nil {
		return err
	}
	r.forgetStatus(key, name, uid)
	return nil
}

// removeBGP does the same for a ServiceBGPStatus.
func (r *Reporter) removeBGP(ctx context.Context, key service.Key, name string) error {
	uid := r.bgpStatusUID(key, name)
	err := r.write(ctx, "delete ServiceBGPStatus", func() error { return r.cluster.deleteBGPStatus(ctx, name, uid) }, replacedOrGone)
	if err != nil {
		return err
	}
	r.forgetBGPStatus(key, name, uid)
	return nil
}

// replacedOrGone is the answer to who changes or deletes an object that has
// another UID by now, or is no more.
func replacedOrGone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// write paces and runs one write; an error for which fine is true is none.
func (r *Reporter) write(ctx context.Context, what string, do func() error, fine func(error) bool) error {
	if err := r.limit.Wait(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := do(); err != nil && (fine == nil || !fine(err)) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// signal wakes the reader of a channel with room for one value.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
