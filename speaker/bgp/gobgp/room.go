package gobgp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// DefaultDrain is how long peers without graceful restart are given to choose
// other ways before their session ends.
const DefaultDrain = 2 * time.Second

// Config is what a Room is made of.
type Config struct {
	Logger *slog.Logger
	// Registerer takes the room's metrics; nil for none.
	Registerer prometheus.Registerer
	// OnChange, if set, is called when Observed may have a new answer, but not
	// for each prefix sent. It is called from the room's goroutines and from
	// SetSessions, and must not block.
	OnChange func()
	// Drain is how long Shutdown waits between asking peers for other ways and
	// ending the sessions: 0 means DefaultDrain, a negative value not at all.
	Drain time.Duration
}

// A Room is the BGP room. All methods may be called at any time, from any
// goroutine, and repeated; none but Run and Shutdown waits for the network.
type Room struct {
	log      *slog.Logger
	onChange func()
	drain    time.Duration
	globals  sync.RWMutex // see library.globals

	neighbors *neighbors
	listeners *listeners

	// mu guards what follows.
	mu       sync.Mutex
	ctx      context.Context // of Run; nil before
	closing  bool
	sessions map[string]*session
	dynamic  map[*session]struct{}
	all      sync.WaitGroup
	refused  []desired.Refusal
	since    map[string]time.Time // of the refusals
	routes   desired.BGPRoutes
	bfd      observed.BFD
	// wasUp are the peers that had a session since the room began.
	wasUp map[string]struct{}
}

// New makes a Room without sessions. It opens no sockets: Run does.
func New(cfg Config) (*Room, error) {
	r := &Room{
		log: cfg.Logger, onChange: cfg.OnChange, drain: cfg.Drain,
		sessions: make(map[string]*session), dynamic: make(map[*session]struct{}),
		routes: make(desired.BGPRoutes), since: make(map[string]time.Time), wasUp: make(map[string]struct{}),
	}
	if r.onChange == nil {
		r.onChange = func() {}
	}
	if r.drain == 0 {
		r.drain = DefaultDrain
	}
	r.neighbors = newNeighbors(r.log)
	r.listeners = newListeners(r.log, r.accept, r.portTaken)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(newMetrics(r)); err != nil {
			return nil, fmt.Errorf("register the BGP metrics: %w", err)
		}
	}
	return r, nil
}

// Run keeps the sessions until ctx ends; it returns nil after all of its
// goroutines have ended. Sessions that Shutdown has not ended are then closed
// without a word, so that peers with graceful restart keep the routes.
func (r *Room) Run(ctx context.Context) error {
	r.mu.Lock()
	if r.ctx != nil {
		r.mu.Unlock()
		return errors.New("the BGP room runs already")
	}
	r.ctx = ctx
	for _, s := range r.sessions {
		r.start(s)
	}
	r.mu.Unlock()
	r.all.Go(func() { r.neighbors.run(ctx) })
	r.all.Go(func() { r.listeners.run(ctx) })
	<-ctx.Done()
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	r.all.Wait()
	return nil
}

// start runs a session; mu is held.
func (r *Room) start(s *session) {
	if r.ctx != nil && !r.closing {
		r.all.Go(func() { s.run(r.ctx) })
	}
}

// Apply changes the wanted routes. Its cost follows the change.
func (r *Room) Apply(change desired.BGPChange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for peer, c := range change {
		routes := r.routes[peer]
		if routes == nil {
			routes = make(desired.Routes)
			r.routes[peer] = routes
		}
		bgp.Apply(routes, c)
		if len(routes) == 0 {
			delete(r.routes, peer)
		}
		if s := r.sessions[peer]; s != nil {
			s.change(c)
		}
		for s := range r.dynamic {
			if s.peer == peer {
				s.change(c)
			}
		}
	}
}

// SetSessions replaces the wanted sessions, and the peers for which there can be
// none. A session that stays as it was is not touched.
func (r *Room) SetSessions(sessions []desired.Session, refused []desired.Refusal) {
	r.setSessions(sessions, refused)
	r.onChange()
}

func (r *Room) setSessions(sessions []desired.Session, refused []desired.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return
	}
	old := make(map[string]desired.Session, len(r.sessions))
	for name, s := range r.sessions {
		old[name] = s.config()
	}
	change := bgp.Diff(old, sessions)
	for _, name := range change.Drop {
		r.log.Info("BGP session removed", "peer", name)
		r.remove(name, &bgp.Notification{Code: bgp.Cease, Subcode: bgp.Deconfigured}, "The peer was removed here.")
		delete(r.wasUp, name)
	}
	for _, want := range change.Reset {
		because := strings.Join(change.Because[want.Name], ", ")
		r.log.Info("BGP session begins anew", "peer", want.Name, "changed", because)
		before := r.remove(want.Name, &bgp.Notification{Code: bgp.Cease, Subcode: bgp.OtherConfig},
			"The configuration was changed here: "+because+".")
		r.add(want, before)
	}
	for _, want := range change.Live {
		r.sessions[want.Name].adjust(want)
		for s := range r.dynamic {
			if s.peer == want.Name {
				s.adjust(want)
			}
		}
	}
	for _, want := range change.Add {
		r.add(want, nil)
	}
	r.setRefused(refused)
	r.attend()
}

// add makes and starts a session; mu is held.
func (r *Room) add(want desired.Session, before *session) {
	s := newSession(r, want, r.routes[want.Name])
	if before != nil {
		s.after = before.done
		s.seen.LastDown = before.observed().LastDown
	}
	r.sessions[want.Name] = s
	s.setBFD(r.watch(s))
	r.start(s)
}

// remove ends a session and the neighbours that came through it; mu is held.
func (r *Room) remove(name string, n *bgp.Notification, message string) *session {
	s := r.sessions[name]
	delete(r.sessions, name)
	s.stop(n, message)
	for d := range r.dynamic {
		if d.peer == name {
			d.stop(n, message)
		}
	}
	if r.ctx == nil {
		close(s.done) // never started
	}
	return s
}

// attend tells the helpers which interfaces and ports are needed; mu is held.
func (r *Room) attend() {
	var interfaces []string
	var ports []port
	for _, s := range r.sessions {
		w := s.config()
		if w.Interface != "" {
			interfaces = append(interfaces, w.Interface)
		}
		ports = append(ports, portsOf(w)...)
	}
	r.neighbors.set(interfaces)
	r.listeners.set(ports)
}

// setRefused replaces the refusals; mu is held.
func (r *Room) setRefused(refused []desired.Refusal) {
	since := make(map[string]time.Time, len(refused))
	for _, f := range refused {
		if t, ok := r.since[f.Peer]; ok {
			since[f.Peer] = t
		} else {
			since[f.Peer] = time.Now()
		}
	}
	r.refused, r.since = slices.Clone(refused), since
}

// SetBFD says what BFD knows of the peers.
func (r *Room) SetBFD(sessions observed.BFD) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bfd = maps.Clone(sessions)
	for s := range r.everyone {
		s.setBFD(r.watch(s))
	}
}

// watch tells whether BFD declares a session's peer dead, or sees it; mu is held.
func (r *Room) watch(s *session) (failed, watched bool) {
	want, seen := s.config(), s.observed()
	if want.BFD == nil {
		return false, false
	}
	for key, b := range r.bfd {
		if bgp.WatchedBy(&want, seen.Remote, seen.Local, key) {
			failed = failed || b.Failed()
			watched = watched || b.State == observed.BFDUp
		}
	}
	return failed, watched && !failed
}

// everyone ranges over all sessions; mu is held.
func (r *Room) everyone(yield func(*session) bool) {
	for _, s := range r.sessions {
		if !yield(s) {
			return
		}
	}
	for s := range r.dynamic {
		if !yield(s) {
			return
		}
	}
}

// Observed returns what was reached, in the order of peers and addresses.
func (r *Room) Observed() observed.BGP {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all observed.BGP
	for s := range r.everyone {
		all = append(all, s.observed())
	}
	for _, f := range r.refused {
		all = append(all, observed.Session{
			Peer: f.Peer, State: observed.Blocked, Since: r.since[f.Peer], Reason: f.Reason, Message: f.Message,
		})
	}
	slices.SortFunc(all, func(a, b observed.Session) int {
		return cmp.Or(cmp.Compare(a.Peer, b.Peer), compareBool(a.Dynamic, b.Dynamic), a.Remote.Compare(b.Remote))
	})
	return all
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// established notes that a peer's session is up, and with it that this process
// has no restart to tell the peer of any more.
func (r *Room) established(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wasUp[peer] = struct{}{}
}

// restarting tells whether the next session of a peer is the first: the peer may
// still hold the routes of the process before this one.
func (r *Room) restarting(peer string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, was := r.wasUp[peer]
	return !was
}

// Shutdown ends all sessions, and nothing is begun any more. Where the speaker is
// only restarting, peers with graceful restart are left without a word and keep
// the routes; all others are asked to take other ways (RFC 8326), given a moment
// to do so, and told goodbye (RFC 9003).
func (r *Room) Shutdown(ctx context.Context, restarting bool) {
	r.mu.Lock()
	r.closing = true
	sessions := slices.Collect(r.everyone)
	r.mu.Unlock()
	r.listeners.set(nil)
	draining := false
	var told []*session
	for _, s := range sessions {
		if o := s.observed(); restarting && o.GracefulRestart {
			s.stop(nil, "The speaker restarts.")
			continue
		} else if o.State == observed.Established {
			draining = s.leave() || draining
		}
		told = append(told, s)
	}
	if draining && r.drain > 0 {
		sleep(ctx, r.drain)
	}
	text := "The load balancer's speaker leaves this node."
	if restarting {
		text = "The load balancer's speaker restarts."
	}
	for _, s := range told {
		s.stop(bgp.Shutdown(text), text)
	}
	for _, s := range sessions {
		select {
		case <-s.done:
		case <-ctx.Done():
			return
		}
	}
}

// portTaken says that a port could be opened, or could not.
func (r *Room) portTaken(p port, err error) {
	r.mu.Lock()
	var affected []*session
	for _, s := range r.sessions {
		if slices.ContainsFunc(portsOf(s.config()), p.same) {
			affected = append(affected, s)
		}
	}
	r.mu.Unlock()
	for _, s := range affected {
		s.portTaken(p, err)
	}
}

// nameOf names a session in metrics.
func nameOf(o observed.Session) (peer, vrf string) {
	if !o.Remote.IsValid() {
		return o.Peer, o.VRF
	}
	return netip.AddrPortFrom(o.Remote, o.Port).String(), o.VRF
}
