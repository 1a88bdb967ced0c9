package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

const (
	// maxWrites is how many writes may be under way at once: enough to keep the
	// API server busy, too few to crowd out others.
	maxWrites = 16
	// graceTime is how long after the start an address outlives a pool that has
	// not been seen yet.
	graceTime = 10 * time.Second
	// reportInterval is the least time between two reports on the use of pools.
	reportInterval = time.Second
	// A write is given up after writeTimeout, and tried again after firstRetry,
	// doubled each time up to lastRetry.
	writeTimeout = 30 * time.Second
	// configRetry is when a configuration that could not be read is read again.
	configRetry = time.Second
	// fenceInterval is how often a loop that may not write asks again.
	fenceInterval = 100 * time.Millisecond
	firstRetry    = 50 * time.Millisecond
	lastRetry     = 30 * time.Second
)

// A cluster is what the loop sees of Kubernetes. Reads come from the cache and
// cost no request, unless said otherwise; what they return is not to be changed.
// Writes may take their time, and any number may run at once.
type cluster interface {
	// synced waits until the cache has shown all there was at the start.
	synced(ctx context.Context) error
	// liveServices asks the API server for all Services, page by page.
	liveServices(ctx context.Context, each func(*corev1.Service)) error
	// service, pool and state return nil for what does not exist.
	service(key service.Key) *corev1.Service
	pool(name string) *v1beta1.IPAddressPool
	state() *v1beta1.ConfigurationState
	// namespaceLabels returns false for one that does not exist.
	namespaceLabels(name string) (labels.Set, bool)
	namespaces() (map[string]labels.Set, error)
	objects() (config.Objects, error)

	// The writes return the resource version that they made.
	patchService(ctx context.Context, key service.Key, patch []byte) (string, error)
	patchPool(ctx context.Context, name string, s v1beta1.IPAddressPoolStatus) (string, error)
	createState(ctx context.Context) error
	patchState(ctx context.Context, s v1beta1.ConfigurationStateStatus) (string, error)
	createEvent(ctx context.Context, e *eventsv1.Event) error
}

// A loop is the controller at work. One goroutine decides; writes run beside it.
type loop struct {
	cluster cluster
	inbox   *inbox
	events  *recorder
	metrics *metrics
	log     *slog.Logger
	// class is the load balancer class that is served, "" for Services without.
	class string
	// mayWrite says whether a write may start now, and by when it has to end.
	mayWrite func(now time.Time) (until time.Time, ok bool)

	// What follows belongs to the goroutine of Start.
	alloc *ipam.Allocator
	pages map[service.Key]*page
	queue []service.Key
	later retries
	// handover are the addresses that change hands.
	handover handover
	flying   int
	done     chan written
	writers  sync.WaitGroup
	// snapshot and problems are the compiled configuration.
	snapshot *config.Snapshot
	problems []config.Problem
	reports  reports

	// begun is true once this replica works, ready once it has adopted what
	// there is. standby is true once another was seen at work.
	begun, ready, standby atomic.Bool
}

// A page is what the loop remembers of one Service beside its decision.
type page struct {
	// read is the version that the decision rests on.
	read string
	// shows are the addresses that the status may show, as far as is known: what
	// was read, and what was written since, if only perhaps. fading are those of
	// them that the Service lost, held is true while it waits for an address.
	shows, fading []netip.Addr
	held          bool
	// wrote is the version that our last write made: what is older has yet to
	// hear of it.
	wrote string
	// queued is true while the Service stands in the loop's queue, flying while
	// a write is under way, and again when the Service changed meanwhile.
	queued, flying, again bool
	// lost is why the Service lost an address, until it is told.
	lost *ipam.Refusal
	// tries counts the writes that failed one after the other; retrying is true
	// while the next try is pending.
	tries    int
	retrying bool
}

// written is the end of a write.
type written struct {
	apply func(version string, err error)
	// version is what the write made.
	version string
	err     error
}

// check is the readiness of the process: a replica at work has adopted what
// there is; one that stands by has a warm cache, and another one at work. So
// from the moment in which a replica is ready, somebody serves.
func (l *loop) check() error {
	switch {
	case l.begun.Load() && l.ready.Load():
		return nil
	case l.begun.Load():
		return errors.New("the Services that hold addresses are being read")
	case l.standby.Load():
		return nil
	}
	return errors.New("no replica is known to be at work yet")
}

// NeedLeaderElection lets only one replica work.
func (l *loop) NeedLeaderElection() bool { return true }

// Start works until ctx is done. It is called once.
func (l *loop) Start(ctx context.Context) error {
	l.begun.Store(true)
	l.alloc = ipam.New()
	l.pages = map[service.Key]*page{}
	l.handover = handover{}
	l.done = make(chan written, maxWrites)
	l.reports.init()
	defer l.writers.Wait()
	l.writers.Go(func() { l.events.run(ctx) })

	if err := l.adopt(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	grace := time.NewTimer(graceTime)
	defer grace.Stop()
	tick := time.NewTimer(0)
	defer tick.Stop()
	l.ready.Store(true)

	for {
		wait := fenceInterval
		if _, ok := l.mayWrite(time.Now()); ok {
			l.launch(ctx)
			wait = l.untilNext(time.Now())
		}
		tick.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-l.inbox.wake:
			l.read(l.inbox.take())
		case w := <-l.done:
			l.flying--
			w.apply(w.version, w.err)
		case <-grace.C:
			l.note(l.alloc.EndGrace())
		case <-tick.C:
			if _, ok := l.mayWrite(time.Now()); ok {
				l.retry(time.Now())
				l.report(ctx)
			}
		}
	}
}

// adopt takes over what there is: the configuration, the namespaces, and all
// assignments, before anything new is given out. The Services are read live:
// the cache of a replica that just took over may not have heard yet of the last
// addresses that its predecessor gave out.
func (l *loop) adopt(ctx context.Context) error {
	if err := l.cluster.synced(ctx); err != nil {
		return err
	}
	l.inbox.start()
	namespaces, err := l.cluster.namespaces()
	if err != nil {
		return err
	}
	for name, set := range namespaces {
		l.alloc.SetNamespace(name, set)
	}
	if err := l.configure(); err != nil {
		return err
	}
	var serve []*service.Service
	err = l.cluster.liveServices(ctx, func(svc *corev1.Service) {
		key := service.Key{Namespace: svc.Namespace, Name: svc.Name}
		parsed := service.Parse(svc)
		p := &page{read: svc.ResourceVersion, wrote: svc.ResourceVersion, shows: parsed.Addresses}
		l.pages[key] = p
		if l.serves(parsed) {
			serve = append(serve, parsed)
		} else if !parsed.LoadBalancer && marked(svc) {
			l.enqueue(key, p)
		}
	})
	if err != nil {
		return fmt.Errorf("read the Services: %w", err)
	}
	l.note(l.alloc.Adopt(serve))
	l.log.Info("adopted the existing assignments", "services", len(serve))
	return nil
}

func (l *loop) serves(svc *service.Service) bool {
	return svc.LoadBalancer && svc.Class == l.class
}

// read acts on what changed.
func (l *loop) read(n notes) {
	for _, name := range n.namespaces {
		if set, ok := l.cluster.namespaceLabels(name); ok {
			l.note(l.alloc.SetNamespace(name, set))
		} else {
			l.note(l.alloc.DeleteNamespace(name))
		}
	}
	if n.config {
		if err := l.configure(); err != nil {
			// What is in force stays, and what was said of it is still true.
			l.metrics.updateErrors.Inc()
			l.log.Error("the configuration stays as it is until it can be read", "err", err)
			time.AfterFunc(configRetry, l.inbox.config)
		}
	}
	for _, key := range n.services {
		if version, gone := n.gone[key]; gone && l.isHistory(key, version) {
			continue
		}
		l.observe(key)
	}
	if n.reports {
		l.reports.due = true
	}
	l.metrics.updates.Add(float64(len(n.services) + len(n.namespaces)))
}

// configure compiles the configuration and installs it if it changed.
func (l *loop) configure() error {
	l.metrics.updates.Inc()
	objects, err := l.cluster.objects()
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	snapshot, problems := config.Compile(objects)
	l.tellProblems(objects, problems)
	l.problems = problems
	l.metrics.configured(problems)
	l.reports.due = true
	if snapshot.Equal(l.snapshot) {
		return nil
	}
	l.snapshot = snapshot
	l.log.Info("the configuration changed", "pools", len(snapshot.Pools), "problems", len(problems))
	l.note(l.alloc.SetPools(snapshot.Pools))
	return nil
}

// isHistory is true when the cache says that a Service is gone, but means one
// that was there before the one of the same name that is known: adopt may know
// more than the cache.
func (l *loop) isHistory(key service.Key, deleted string) bool {
	p := l.pages[key]
	return p != nil && l.cluster.service(key) == nil && older(deleted, p.wrote)
}

// observe acts on one Service that changed.
func (l *loop) observe(key service.Key) {
	svc := l.cluster.service(key)
	p := l.pages[key]
	if svc == nil {
		l.release(key)
		delete(l.pages, key)
		if p != nil {
			l.trace(key, p)
		}
		return
	}
	if p == nil {
		p = &page{}
		l.pages[key] = p
	}
	if p.flying {
		p.again = true
		return
	}
	if older(svc.ResourceVersion, p.wrote) {
		// Our own write is still to come through the watch, and with it a note.
		return
	}
	parsed := service.Parse(svc)
	if p.read != svc.ResourceVersion {
		p.read, p.shows = svc.ResourceVersion, parsed.Addresses
	}
	if l.serves(parsed) {
		l.note(l.alloc.Assign(parsed))
	} else {
		l.release(key)
	}
	l.trace(key, p)
	l.enqueue(key, p)
}

// release frees what a Service holds. The pools then count less, also when
// nobody waited for it and no decision follows.
func (l *loop) release(key service.Key) {
	l.note(l.alloc.Release(key))
	l.reports.due = true
}

// older reports whether version a comes before b. Versions that cannot be
// compared are taken to be new.
func older(a, b string) bool {
	if a == b || b == "" {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// note has decisions written.
func (l *loop) note(decisions []ipam.Decision) {
	for _, d := range decisions {
		p := l.pages[d.Service.Key]
		if p == nil {
			continue
		}
		if d.Lost != nil {
			p.lost = d.Lost
		}
		l.trace(d.Service.Key, p)
		l.enqueue(d.Service.Key, p)
	}
	if len(decisions) > 0 {
		l.reports.due = true
	}
}

func (l *loop) enqueue(key service.Key, p *page) {
	if !p.queued {
		p.queued = true
		l.queue = append(l.queue, key)
	}
}

// untilNext returns how long nothing is due.
func (l *loop) untilNext(now time.Time) time.Duration {
	wait := time.Hour
	if at, ok := l.later.first(); ok {
		wait = min(wait, at.Sub(now))
	}
	if l.reports.due {
		wait = min(wait, l.reports.last.Add(reportInterval).Sub(now))
	}
	return max(wait, 0)
}
