package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/observed"
)

// DefaultPort is the gossip port, TCP and UDP, the same as MetalLB's.
const DefaultPort = 7946

// Peer is one speaker that the cluster knows of.
type Peer struct {
	Node string
	// Addr is where its gossip port listens. The zero value means that the
	// speaker exists but has no address yet: it is waited for.
	Addr netip.Addr
	// Ready means that the speaker serves, as far as the cluster knows: it was
	// settled and has not stopped since.
	Ready bool
}

// Config is what a Ring needs. Node, Bind, Secret and Peers are mandatory.
type Config struct {
	// Node is this node's name in Kubernetes.
	Node string
	// Bind is the address to listen on; Advertise what others are told, if it
	// differs. Port 0 means DefaultPort; all speakers use the same.
	Bind, Advertise netip.Addr
	Port            int
	// Secret returns the text of the shared secret, as SecretIn does. It is
	// called every few seconds.
	Secret func() (string, error)
	// Peers lists the speakers; this node's own may be among them. It is called
	// at the start, then at most every 30 s, more often only while a listed peer
	// has no address, and after each Refresh. It may block until ctx ends.
	Peers func(ctx context.Context) ([]Peer, error)
	// Tuning is LAN() when it is the zero value.
	Tuning Tuning
	// Grace bounds how long listed peers are waited for; 0 means 10 s.
	Grace time.Duration
	// LearnWithin bounds each step of a change of keys; 0 means 5 minutes, more
	// than a kubelet takes to refresh a mounted secret.
	LearnWithin time.Duration
	Logger      *slog.Logger
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// Ring is the membership ring as one speaker sees it. Its methods may be called
// from any goroutine, before, during and after Run.
type Ring struct {
	cfg     Config
	log     *slog.Logger
	metrics *ringMetrics
	timing  timing
	// derive and secretEvery are fields so that tests need not wait.
	derive      func(string) (key, error)
	secretEvery time.Duration

	view    atomic.Pointer[observed.Members]
	changed chan struct{}
	dirty   chan struct{} // own state has changed
	joinNow chan struct{} // look for missing peers
	wake    chan struct{} // look at the clock again

	queue *memberlist.TransmitLimitedQueue
	size  atomic.Int64 // members in the ring, for the queue

	// mu guards everything below. It is taken inside memberlist's callbacks, so
	// nothing of memberlist is called while it is held.
	mu      sync.Mutex
	self    state
	told    bool // SetInterfaces was called
	states  map[string]state
	gone    map[string]time.Time // since when a known state has no member
	members map[string]member
	stale   bool // the list of peers is to be read again
	facts   facts
	settled bool
	waiting string
	// settleAt is when time alone may settle the ring; zero if it cannot.
	settleAt time.Time
	keys     []keyID
	list     *memberlist.Memberlist // nil unless the ring runs
}

// member is a node of the ring as memberlist tells it.
type member struct {
	addr netip.AddrPort
	meta meta
	// behind is since when its state is known to be missing or old.
	behind time.Time
}

// New checks cfg and returns a Ring that does nothing until Run.
func New(cfg Config) (*Ring, error) {
	switch {
	case cfg.Node == "" || len(cfg.Node) > maxNodeName:
		return nil, fmt.Errorf("membership: the node name %q is not usable, expected 1 to %d characters", cfg.Node, maxNodeName)
	case !cfg.Bind.IsValid():
		return nil, errors.New("membership: no address to listen on")
	case cfg.Bind.IsUnspecified() && !cfg.Advertise.IsValid():
		return nil, fmt.Errorf("membership: listening on %s needs an address to tell the others", cfg.Bind)
	case cfg.Secret == nil || cfg.Peers == nil:
		return nil, errors.New("membership: the sources of the secret and of the peers are mandatory")
	case cfg.Port < 0 || cfg.Port > 65535:
		return nil, fmt.Errorf("membership: port %d, expected 1 to 65535", cfg.Port)
	}
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	if cfg.Tuning == (Tuning{}) {
		cfg.Tuning = LAN()
	}
	if err := cfg.Tuning.validate(); err != nil {
		return nil, err
	}
	if cfg.Grace == 0 {
		cfg.Grace = 10 * time.Second
	}
	if cfg.LearnWithin == 0 {
		cfg.LearnWithin = 5 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Ring{
		cfg:         cfg,
		log:         cfg.Logger.With("component", "Memberlist"),
		metrics:     newRingMetrics(cfg.Metrics),
		timing:      timing{grace: cfg.Grace, gather: 250 * time.Millisecond, evidence: 45 * time.Second},
		derive:      derive,
		secretEvery: 2 * time.Second,
		changed:     make(chan struct{}, 1),
		dirty:       make(chan struct{}, 1),
		joinNow:     make(chan struct{}, 1),
		wake:        make(chan struct{}, 1),
		states:      map[string]state{},
		gone:        map[string]time.Time{},
		members:     map[string]member{},
		facts:       facts{keyErr: "the secret has not been read yet", foreign: map[string]time.Time{}},
		self: state{
			Node:    cfg.Node,
			Version: version{Epoch: uint64(time.Now().UnixNano())},
			Phase:   observed.Starting,
		},
	}
	r.queue = &memberlist.TransmitLimitedQueue{
		RetransmitMult: cfg.Tuning.RetransmitMult,
		NumNodes:       func() int { return int(r.size.Load()) },
	}
	r.mu.Lock()
	r.refresh(time.Now())
	r.mu.Unlock()
	return r, nil
}

// Members returns the ring as it is known now. The value is never changed.
func (r *Ring) Members() observed.Members { return *r.view.Load() }

// Changed receives a value after Members has changed. Changes coalesce.
func (r *Ring) Changed() <-chan struct{} { return r.changed }

// SetPhase tells the others this node's phase.
func (r *Ring) SetPhase(p observed.Phase) {
	r.update(func(s *state) bool {
		was := s.Phase
		s.Phase = p
		return p != was
	})
}

// SetInterfaces tells the others this node's interfaces. It may be called with
// the same value again; the argument is copied.
func (r *Ring) SetInterfaces(in []observed.Interface) {
	own, dropped := canonical(in)
	changed := r.update(func(s *state) bool {
		if r.told && sameInterfaces(s.Interfaces, own) {
			return false
		}
		r.told, s.Interfaces = true, own
		return true
	})
	if changed && dropped > 0 {
		r.log.Warn("this node has more interfaces or prefixes than the ring carries; some are not told to the others", "node", r.cfg.Node, "dropped", dropped)
	}
}

func (r *Ring) update(change func(*state) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !change(&r.self) {
		return false
	}
	r.self.Version.Seq++
	r.refresh(time.Now())
	signal(r.dirty)
	return true
}

// Refresh says that the list of peers may have changed: it is read again now.
func (r *Ring) Refresh() {
	r.mu.Lock()
	r.stale = true
	r.mu.Unlock()
	signal(r.joinNow)
}

// Flush hands this node's state, as it is now, directly to every member, and
// returns when all have it or ctx ends. A node that drains calls it after
// SetPhase, so that the others act before it stops.
func (r *Ring) Flush(ctx context.Context) error {
	r.mu.Lock()
	list, msg, to := r.list, appendMessage(nil, r.own()...), r.targets()
	r.mu.Unlock()
	if list == nil || len(to) == 0 {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- sendAll(list, msg, to) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("tell %d members: %w", len(to), ctx.Err())
	}
}

// own returns what this node says of itself: nothing before it knows its
// interfaces. The phase is in the metadata even then. mu is held.
func (r *Ring) own() []state {
	if !r.told {
		return nil
	}
	return []state{r.self}
}

// targets returns the other members. mu is held.
func (r *Ring) targets() []*memberlist.Node {
	var to []*memberlist.Node
	for name, m := range r.members {
		if name != r.cfg.Node {
			to = append(to, &memberlist.Node{Name: name, Addr: m.addr.Addr().AsSlice(), Port: m.addr.Port()})
		}
	}
	return to
}

// sendAll sends msg to each node over TCP, a few at a time. It ends by itself:
// each connection is bounded by the TCP timeout.
func sendAll(list *memberlist.Memberlist, msg []byte, to []*memberlist.Node) error {
	const parallel = 16
	errs := make([]error, len(to))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, node := range to {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := list.SendReliable(node, msg); err != nil {
				errs[i] = fmt.Errorf("tell member %s: %w", node.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// refresh publishes the view if it differs from the last. mu is held.
func (r *Ring) refresh(now time.Time) {
	if !r.settled {
		r.settled, r.waiting, r.settleAt = r.facts.settle(r.cfg.Node, now, r.timing)
		if r.settled {
			r.log.Info("the gossip ring is settled", "node", r.cfg.Node, "members", len(r.members))
		}
	}
	v := observed.Members{Enabled: true, Settled: r.settled, Waiting: r.waiting}
	for name, m := range r.members {
		if name != r.cfg.Node {
			v.Members = append(v.Members, r.observe(name, m))
		}
	}
	v.Members = append(v.Members, observed.Member{
		Node: r.cfg.Node, Phase: r.self.Phase, Known: r.told, Interfaces: r.self.Interfaces,
	})
	slices.SortFunc(v.Members, func(a, b observed.Member) int { return strings.Compare(a.Node, b.Node) })
	if old := r.view.Load(); old != nil && sameMembers(*old, v) {
		return
	}
	r.size.Store(int64(len(v.Members)))
	r.metrics.members.Set(float64(len(v.Members)))
	r.view.Store(&v)
	signal(r.changed)
}

// observe joins what memberlist and the node itself say of a node. The newer
// of the two has the phase; the interfaces count if they are of the same life
// of the process. mu is held.
func (r *Ring) observe(name string, m member) observed.Member {
	s, ok := r.states[name]
	if !ok || m.meta.Version.Epoch > s.Version.Epoch {
		return observed.Member{Node: name, Phase: m.meta.Phase}
	}
	phase := s.Phase
	if m.meta.Version.newer(s.Version) {
		phase = m.meta.Phase
	}
	return observed.Member{Node: name, Phase: phase, Known: true, Interfaces: s.Interfaces}
}

func sameMembers(a, b observed.Members) bool {
	return a.Enabled == b.Enabled && a.Settled == b.Settled && a.Waiting == b.Waiting &&
		slices.EqualFunc(a.Members, b.Members, func(a, b observed.Member) bool {
			return a.Node == b.Node && a.Phase == b.Phase && a.Known == b.Known && sameInterfaces(a.Interfaces, b.Interfaces)
		})
}

func sameInterfaces(a, b []observed.Interface) bool {
	return slices.EqualFunc(a, b, func(a, b observed.Interface) bool {
		return a.Name == b.Name && a.Carrier == b.Carrier && a.IPv4 == b.IPv4 && a.IPv6 == b.IPv6 && slices.Equal(a.Prefixes, b.Prefixes)
	})
}

// signal wakes the reader of a channel with room for one value.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
