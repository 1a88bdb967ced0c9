package report

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/speaker/observed"
)

const (
	// Mere numbers of a session are told this often.
	numbersEvery = 10 * time.Second
	// What an earlier life of this speaker told of its sessions stays as it is
	// for this long: they are being established again.
	startWithin = 10 * time.Second
)

// sessionMemory is what is known of the BGPSessionStatus objects of this node.
type sessionMemory struct {
	wake  chan struct{}
	sweep chan struct{}

	mu sync.Mutex // guards the rest
	// given is when the first word on sessions came, zero before.
	given time.Time
	bgp   observed.BGP
	bfd   observed.BFD
	// turn counts the words.
	turn    int
	objects shelf[*v1alpha1.BGPSessionStatus]
	// entries belong to the goroutine that tells.
	entries map[string]*sessionEntry
}

// sessionEntry is what this process knows of one object.
type sessionEntry struct {
	// told is what the object said last, also once somebody has deleted it; nil
	// if it never was.
	told *v1alpha1.BGPSessionStatusStatus
	// ours is true once this process has told something.
	ours bool
	pace pace
	// wrote is when the object was written last, retry when to try again.
	wrote, retry time.Time
	failures     int
}

// SessionsChanged takes all BGP and BFD sessions of this node as they are. It
// may be called for every change; what is written follows more slowly.
func (r *Reporter) SessionsChanged(bgp observed.BGP, bfd observed.BFD) {
	m := &r.sessions
	m.mu.Lock()
	if m.given.IsZero() {
		m.given = r.now()
	}
	m.bgp, m.bfd = bgp, bfd
	m.turn++
	m.mu.Unlock()
	signal(m.wake)
}

// sessionSeen keeps the BGPSessionStatus objects of this node as they are there.
func (r *Reporter) sessionSeen(s *v1alpha1.BGPSessionStatus, gone bool) {
	if s.Labels[labelNode] != labelValue(r.me.node) {
		return
	}
	m := &r.sessions
	m.mu.Lock()
	if gone {
		m.objects.lost(s)
	} else {
		m.objects.seen(s)
	}
	m.mu.Unlock()
	signal(m.wake)
}

// runSessions tells of the sessions until ctx ends.
func (r *Reporter) runSessions(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var tick <-chan time.Time
	if r.ask != nil {
		ticker := time.NewTicker(numbersEvery)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.sessions.wake:
		case <-timer.C:
		case <-tick:
			r.lookAgain()
		}
		if next := r.tellSessions(ctx); !next.IsZero() {
			timer.Reset(max(next.Sub(r.now()), time.Millisecond))
		} else {
			timer.Stop()
		}
	}
}

// lookAgain takes the sessions as they are now, unless nobody has told of any,
// or somebody tells meanwhile.
func (r *Reporter) lookAgain() {
	m := &r.sessions
	m.mu.Lock()
	there, turn := len(m.bgp) > 0, m.turn
	m.mu.Unlock()
	if !there {
		return
	}
	bgp, bfd := r.ask()
	m.mu.Lock()
	if m.turn == turn {
		m.bgp, m.bfd = bgp, bfd
	}
	m.mu.Unlock()
}

// tellSessions writes what may be written now and returns when to look again,
// zero for not before something changes.
func (r *Reporter) tellSessions(ctx context.Context) (next time.Time) {
	m := &r.sessions
	m.mu.Lock()
	given, bgp, bfd := m.given, m.bgp, m.bfd
	there := slices.Clone(m.objects.objects)
	m.mu.Unlock()
	if given.IsZero() {
		return time.Time{}
	}
	wants := r.me.sessions(bgp, bfd)
	names := map[string]*v1alpha1.BGPSessionStatus{}
	for name := range wants {
		names[name] = nil
	}
	for _, o := range there {
		names[o.Name] = o
	}
	for name := range m.entries {
		if _, ok := names[name]; !ok {
			delete(m.entries, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if ctx.Err() != nil {
			return time.Time{}
		}
		want, wanted := wants[name]
		at := r.tellSession(ctx, name, names[name], want, wanted, given.Add(startWithin))
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	m.forgetGone(wants)
	return next
}

// forgetGone drops the versions at which objects were deleted that nobody wants.
func (m *sessionMemory) forgetGone(wants map[string]session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.objects.gone {
		if _, ok := wants[name]; !ok {
			delete(m.objects.gone, name)
		}
	}
}

// tellSession writes about one session what may be written now. It returns when
// to look at it again, zero for not before something changes.
func (r *Reporter) tellSession(ctx context.Context, name string, have *v1alpha1.BGPSessionStatus, want session, wanted bool, settled time.Time) time.Time {
	e := r.sessions.entries[name]
	if e == nil {
		e = &sessionEntry{}
		r.sessions.entries[name] = e
	}
	if e.told == nil && have != nil && have.Status.Node != "" {
		e.told = have.Status.DeepCopy()
	}
	now := r.now()
	starting := !e.ours && e.told != nil && now.Before(settled)
	w := r.me.decideSession(have, e.told, want, wanted, starting)
	var due time.Time
	switch {
	case w.when == never && starting:
		return settled
	case w.when == never:
		return time.Time{}
	case w.when == slowly:
		due = e.wrote.Add(numbersEvery)
	}
	due = latest(due, e.pace.next(), e.retry)
	if starting && w.when == slowly {
		due = latest(due, settled)
	}
	if due.After(now) {
		return due
	}
	e.pace.take(now)
	if err := r.applySession(ctx, name, have, want.status.Peer, w); err != nil {
		if ctx.Err() != nil {
			return time.Time{}
		}
		e.retry = now.Add(min(100*time.Millisecond<<min(e.failures, 10), 30*time.Second))
		e.failures++
		r.metrics.failures.Inc()
		r.log.Warn("a BGP session could not be reported on; it is tried again", "peer", want.status.Peer, "err", err)
		return latest(e.retry, e.pace.next())
	}
	e.failures, e.wrote, e.ours = 0, now, true
	if w.remove {
		delete(r.sessions.entries, name)
		return time.Time{}
	}
	e.told = w.status
	return time.Time{}
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// applySession carries out w.
func (r *Reporter) applySession(ctx context.Context, name string, have *v1alpha1.BGPSessionStatus, peer string, w sessionWrites) error {
	m := &r.sessions
	if w.remove || w.replace {
		err := r.write(ctx, "delete BGPSessionStatus", func() error { return r.cluster.deleteSession(ctx, name, have.UID) }, replacedOrGone)
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.objects.forget(name, have.UID)
		m.mu.Unlock()
		if w.remove {
			return nil
		}
	}
	object := have
	if w.create != nil {
		object = w.create
		if err := r.write(ctx, "create BGPSessionStatus", func() error { return r.cluster.createSession(ctx, object) }, apierrors.IsAlreadyExists); err != nil {
			return err
		}
	}
	var version string
	err := r.write(ctx, "write BGPSessionStatus", func() (err error) {
		version, err = r.cluster.setSession(ctx, name, *w.status)
		return err
	}, nil)
	if err != nil {
		return err
	}
	object = object.DeepCopy()
	object.ResourceVersion, object.Status = version, *w.status
	m.mu.Lock()
	if known, ok := m.objects.get(name); !ok || older(known.ResourceVersion, version) {
		if ok {
			object.UID = known.UID
		}
		m.objects.written(object)
	}
	m.mu.Unlock()
	for _, n := range w.events {
		err := r.write(ctx, "write an event", func() error { return r.cluster.peerEvent(ctx, peer, n) }, apierrors.IsNotFound)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("an event was lost", "peer", peer, "reason", n.reason, "err", err)
		}
	}
	return nil
}

// sessionWrites is what to do about one session.
type sessionWrites struct {
	when urgency
	// remove deletes the object, replace does so before create.
	remove, replace bool
	create          *v1alpha1.BGPSessionStatus
	status          *v1alpha1.BGPSessionStatusStatus
	events          []note
}

// decideSession returns the writes that lead from what is there to what should
// be. told is what was there last; starting is true while this process has told
// nothing of it and has only just begun.
func (me identity) decideSession(have *v1alpha1.BGPSessionStatus, told *v1alpha1.BGPSessionStatusStatus, want session, wanted, starting bool) sessionWrites {
	if have != nil && have.DeletionTimestamp != nil {
		have = nil
	}
	if !wanted {
		if have == nil || starting {
			return sessionWrites{}
		}
		return sessionWrites{when: promptly, remove: true}
	}
	status := want.settle(told, starting)
	w := sessionWrites{status: &status}
	switch {
	case have == nil:
		w.when, w.create = promptly, me.newSession(want.name, status.Peer)
	case !ownedBy(have, me.owner) || have.Status.Node != "" && (have.Status.Node != status.Node || have.Status.Peer != status.Peer):
		// It would go with an owner that is not ours, or cannot be made ours.
		w.when, w.replace, w.create = promptly, true, me.newSession(want.name, status.Peer)
	default:
		w.when = urgencyOf(have.Status, status)
	}
	if w.when == never {
		return sessionWrites{}
	}
	w.events = me.transitions(told, status)
	return w
}
