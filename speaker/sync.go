package main

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/index"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// store reads the caches. It is asked from the loop only.
type store interface {
	// Objects returns all objects of the configuration.
	Objects(ctx context.Context) (config.Objects, error)
	// Secrets returns the keys in Herald's namespace.
	Secrets(ctx context.Context) (plan.Secrets, error)
	// Speakers returns the nodes that have a speaker's pod, running or not.
	Speakers(ctx context.Context) ([]string, error)
}

// ring is the membership. None of its methods blocks, but for Flush.
type ring interface {
	Members() observed.Members
	Changed() <-chan struct{}
	SetPhase(observed.Phase)
	SetInterfaces([]observed.Interface)
	// Refresh says that the list of peers may have changed.
	Refresh()
	// Flush returns when every member knows this node's phase, or ctx ends.
	Flush(ctx context.Context) error
}

// announcer is the layer 2 room. None of its methods blocks.
type announcer interface {
	Set(desired.L2)
	Apply(desired.L2Change)
	SetLinks(observed.Links)
}

// reporter tells the cluster. None of its methods blocks.
type reporter interface {
	// Changed takes the first time what was decided on every Service, and then
	// what is different.
	Changed(changed []desired.Decision, removed []service.Key)
	// Drop takes the Decisions that are no more though their Services are.
	Drop([]desired.Subject)
	// SessionsChanged takes what became of all sessions.
	SessionsChanged(observed.BGP, observed.BFD)
	// SetProblems takes the problems of the configuration that is in force.
	SetProblems([]config.Problem)
	// BecameFirst is called, after Changed, when this node is the first now.
	BecameFirst()
	// Reconsider is called when the ring has changed, after Changed.
	Reconsider()
}

// rooms are what the loop reads from and tells.
type rooms struct {
	store  store
	ring   ring
	l2     announcer
	bgp    bgpRoom
	bfd    bfdRoom
	report reporter
}

// loop is the one goroutine that owns the index: it takes the notes, asks the
// plan and tells the rooms.
type loop struct {
	rooms
	log       *slog.Logger
	node      string
	namespace string
	class     string
	inbox     *inbox
	index     *index.Index

	endpoints *endpoints
	links     observed.Links
	exclude   link.Exclude
	snapshot  *config.Snapshot
	// self is this node, keys are the Secrets, nil before they are known.
	self observed.Node
	keys plan.Secrets
	// sessions are those that this node keeps; opened is true once the BGP room
	// has been told.
	sessions []desired.Session
	refused  []desired.Refusal
	opened   bool
	// problems are those of the objects, told are all that were reported.
	problems, told []config.Problem
	// first is true while this node does what one of all must do.
	first atomic.Bool
	// planned is true once the plan was reported for the first time.
	planned bool
	// linked and synced are true once the links and the caches are known.
	linked, synced bool
	// born is when the speaker started.
	born time.Time
	// gathered is when to wait for other speakers no longer, zero before.
	gathered time.Time
	// ready is true from the moment on that this node knows the cluster.
	ready bool
	// waiting says what the speaker still waits for; "" once it is ready.
	waiting atomic.Pointer[string]
}

func newLoop(o options, log *slog.Logger, in *inbox, r rooms) *loop {
	l := &loop{
		rooms: r, log: log, node: o.node, namespace: o.process.Namespace, class: o.class, inbox: in,
		index: index.New(o.node, o.ignoreExclude), endpoints: newEndpoints(), born: time.Now(),
	}
	l.wait("the API server's objects")
	return l
}

// run works until ctx ends. Then it still announces: see drain.
func (l *loop) run(ctx context.Context) error {
	for {
		ring := false
		select {
		case <-ctx.Done():
			return nil
		case <-l.inbox.wake:
		case <-l.ring.Changed():
			ring = true
		}
		if err := l.step(ctx); ctx.Err() != nil {
			return nil // what was asked of the caches may have been cut short
		} else if err != nil {
			return err
		}
		if ring {
			l.report.Reconsider()
		}
	}
}

// step takes what happened into the index and passes on what follows from it.
func (l *loop) step(ctx context.Context) error {
	n := l.inbox.take()
	l.synced = n.synced
	if n.peers {
		l.ring.Refresh()
	}
	l.takeLinks(n)
	for name, node := range n.nodes {
		if node == nil {
			l.index.DeleteNode(name)
		} else {
			l.index.SetNode(*node)
			if name == l.node {
				// Whether two objects contradict each other is asked of this node.
				n.config = n.config || !maps.Equal(l.self.Labels, node.Labels)
				l.self = *node
			}
		}
	}
	l.takeServices(n)
	if l.synced && (n.config || l.snapshot == nil) {
		if err := l.compile(ctx); err != nil {
			return err
		}
	}
	if err := l.becomeReady(ctx); err != nil {
		return err
	}
	l.index.SetMembers(l.ring.Members())
	if l.snapshot == nil {
		return nil
	}
	l.flush()
	return l.takeSessions(ctx, n)
}

// flush tells the rooms what is different now.
func (l *loop) flush() {
	c := l.index.Flush()
	if len(c.L2.Announce) > 0 || len(c.L2.Withdraw) > 0 {
		l.l2.Apply(c.L2)
	}
	if len(c.BGP) > 0 {
		l.bgp.Apply(c.BGP)
	}
	first := l.index.Reporter() == l.node
	was := l.first.Swap(first) // what the report does next depends on it
	if len(c.Decisions) > 0 || len(c.Removed) > 0 || !l.planned {
		l.planned = true
		l.report.Changed(c.Decisions, c.Removed)
	}
	if len(c.Dropped) > 0 {
		l.report.Drop(c.Dropped)
	}
	if first && !was {
		l.report.BecameFirst()
	}
}

// takeLinks passes on which interfaces may announce.
func (l *loop) takeLinks(n notes) {
	if n.links == nil && n.exclude == nil {
		return
	}
	if n.links != nil {
		l.links, l.linked = *n.links, true
	}
	if n.exclude != nil {
		l.exclude = *n.exclude
	}
	if !l.linked {
		return
	}
	usable := link.Announcing(l.links, l.exclude)
	l.l2.SetLinks(usable)
	l.ring.SetInterfaces(link.Interfaces(usable))
}

// takeServices brings the index up to date with the Services and endpoints
// that changed.
func (l *loop) takeServices(n notes) {
	touched := map[service.Key]struct{}{}
	for key, s := range n.slices {
		l.endpoints.set(key, s, func(of service.Key) { touched[of] = struct{}{} })
	}
	for key, svc := range n.services {
		delete(touched, key)
		if svc == nil || !l.ours(svc) {
			l.index.Delete(key)
			continue
		}
		now := service.Parse(svc)
		l.index.Set(plan.Service{Service: now, Endpoints: l.endpoints.of(key, now.Local)})
	}
	for key := range touched {
		if now, ok := l.index.Get(key); ok {
			now.Endpoints = l.endpoints.of(key, now.Local)
			l.index.Set(now)
		}
	}
}

// ours tells whether the Service is one for this load balancer.
func (l *loop) ours(svc *corev1.Service) bool {
	class := ""
	if svc.Spec.LoadBalancerClass != nil {
		class = *svc.Spec.LoadBalancerClass
	}
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer && class == l.class
}

// compile puts the configuration in force that the objects make now.
func (l *loop) compile(ctx context.Context) error {
	objects, err := l.store.Objects(ctx)
	if err != nil {
		return err
	}
	objects.Nodes = []config.Node{{Name: l.node, Labels: l.self.Labels}}
	snapshot, problems := config.Compile(objects)
	l.problems = problems
	if l.snapshot != nil && l.snapshot.Equal(snapshot) {
		return nil
	}
	l.log.Info("new configuration in force", "pools", len(snapshot.Pools),
		"l2advertisements", len(snapshot.L2Advertisements), "bgpadvertisements", len(snapshot.BGPAdvertisements),
		"peers", len(snapshot.Peers), "problems", len(problems))
	l.snapshot = snapshot
	l.index.SetConfig(snapshot)
	l.index.SetSynced(true)
	return nil
}

// becomeReady tells everybody, once, that this node knows the cluster. Before,
// it announces nothing and is nobody's candidate: a speaker that was just born
// takes nothing from its elders.
func (l *loop) becomeReady(ctx context.Context) error {
	if l.ready {
		return nil
	}
	m := l.ring.Members()
	switch {
	case !l.synced || l.snapshot == nil:
		l.wait("the API server's objects")
		return nil
	case !l.linked:
		l.wait("the interfaces of this node")
		return nil
	case !m.Settled && m.Waiting != "":
		l.wait("the membership ring: " + m.Waiting)
		return nil
	case !m.Settled:
		l.wait("the membership ring")
		return nil
	}
	now := time.Now()
	if late, err := l.startsTogether(ctx, m, now); err != nil {
		return err
	} else if late != "" && !l.gather(now) {
		l.wait("the speaker of " + late + ", which starts together with this one")
		return nil
	}
	l.ready = true
	l.index.SetReady(true)
	l.ring.SetPhase(observed.Ready)
	l.wait("")
	l.log.Info("ready", "node", l.node, "services", l.index.Len(), "members", len(m.Members))
	tidyLater(l.log)
	return nil
}

const (
	// gatherWithin bounds how long a speaker that knows the cluster waits for
	// others that start together with it.
	gatherWithin = 3 * time.Second
	// joinWithin is the age at which it does not wait any more for one whose pod
	// exists and that has not joined the ring: its node may well be dead. The
	// ring itself waits longer before it settles with nobody.
	joinWithin = 5 * time.Second
)

// startsTogether returns a node whose speaker starts together with this one,
// "" if there is none. If the first of them announced at once, it would take
// every address and give most of them away again. Where an elder serves there
// is no need to wait, and waiting would leave a gap, since an elder yields to
// those that are ready.
func (l *loop) startsTogether(ctx context.Context, m observed.Members, now time.Time) (late string, err error) {
	if !m.Enabled {
		return "", nil
	}
	here := map[string]bool{l.node: true}
	for _, other := range m.Members {
		here[other.Node] = true
		switch {
		case other.Node == l.node:
		case other.Phase == observed.Ready || other.Phase == observed.Restarting:
			return "", nil
		case other.Phase == observed.Starting:
			late = other.Node
		}
	}
	if late != "" || now.Sub(l.born) >= joinWithin {
		return late, nil
	}
	listed, err := l.store.Speakers(ctx)
	for _, node := range listed {
		if !here[node] {
			late = node
		}
	}
	return late, err
}

// gather begins to wait for other speakers and tells when that is over.
func (l *loop) gather(now time.Time) (over bool) {
	if l.gathered.IsZero() {
		l.gathered = now.Add(gatherWithin)
		l.ring.SetPhase(observed.Gathering)
		time.AfterFunc(gatherWithin, func() { l.inbox.put(func(*notes) {}) })
	}
	return !now.Before(l.gathered)
}

// wait notes what keeps the speaker from being ready.
func (l *loop) wait(what string) {
	if old := l.waiting.Load(); old != nil && *old == what {
		return
	}
	l.waiting.Store(&what)
	if what != "" {
		l.log.Info("waiting for "+what, "node", l.node)
	}
}

// unready is the readiness check: nil, or what the speaker waits for.
func (l *loop) unready() error {
	if what := *l.waiting.Load(); what != "" {
		return waitingError(what)
	}
	return nil
}

type waitingError string

func (e waitingError) Error() string { return "waiting for " + string(e) }

const (
	// tellWithin bounds how long the other speakers are told of the drain.
	tellWithin = 500 * time.Millisecond
	// handOver is how long this node still answers after the others know: they
	// announce first. With tellWithin and the ring's farewell of a second at the
	// most it is less than the 2 s after which old manifests kill the process.
	handOver = 300 * time.Millisecond
	// partWithin bounds the farewell to the BGP peers, which goes on meanwhile.
	partWithin = time.Second
)

// drain hands over what this node announces and then stops answering. The loop
// has ended, so until then nothing changes here.
func (l *loop) drain() {
	var bgp sync.WaitGroup
	defer bgp.Wait()
	bgp.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), partWithin)
		defer cancel()
		l.bgp.Shutdown(ctx, !l.self.Leaving)
	})
	announced := l.index.L2()
	l.log.Info("draining", "node", l.node, "addresses", len(announced))
	l.ring.SetPhase(observed.Draining)
	if len(announced) > 0 && l.heirs() {
		ctx, cancel := context.WithTimeout(context.Background(), tellWithin)
		if err := l.ring.Flush(ctx); err != nil {
			l.log.Warn("not every speaker knows that this one drains", "err", err)
		}
		cancel()
		time.Sleep(handOver)
	}
	l.l2.Set(nil)
	l.log.Info("drained", "node", l.node)
}

// heirs tells whether another speaker can take over.
func (l *loop) heirs() bool {
	for _, m := range l.ring.Members().Members {
		if m.Node != l.node && (m.Phase == observed.Ready || m.Phase == observed.Restarting) {
			return true
		}
	}
	return false
}
