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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
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
	// Sessions returns what SessionsChanged would take now. It is asked now and
	// then for the numbers that change too often to be told of. Nil means that
	// nothing changes in between.
	Sessions func() (observed.BGP, observed.BFD)
	// Alive returns the nodes whose speakers are alive, false if that cannot be
	// known. Nil means that it never can.
	Alive   func() (nodes []string, known bool)
	Logger  *slog.Logger
	Metrics prometheus.Registerer
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
	// alive and ask are Config.Alive and Config.Sessions; ask may be nil.
	alive func() ([]string, bool)
	ask   func() (observed.BGP, observed.BFD)

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
	// allSessions are the BGPSessionStatus objects of all nodes.
	allSessions(ctx context.Context) ([]metav1.ObjectMeta, error)
	// nodes are the names of the nodes that the cluster has, at least this one.
	nodes(ctx context.Context) ([]string, error)

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
		ask:     cfg.Sessions,
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
	if r.alive = cfg.Alive; r.alive == nil {
		r.alive = func() ([]string, bool) { return nil, false }
	}
	r.metrics = newMetrics(cfg.Metrics, r)
	return r
}

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

// signal wakes the reader of a channel with room for one value.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
