package udp

import (
	"errors"
	"slices"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

const (
	// retryLeast and retryMost are the pauses between two attempts to open the
	// sockets of a session.
	retryLeast = time.Second
	retryMost  = 10 * time.Second
)

// errPortInUse: another program owns a BFD port of the node.
var errPortInUse = errors.New("another program has the port")

// session is one of the sessions that are wanted, or one that was and takes
// its leave.
type session struct {
	key    observed.BFDPeer
	params desired.BFDParameters
	door   door
	begun  time.Time

	// bfd is nil until the sockets are open.
	bfd *bfd.Session
	// out is nil while it could not be opened again; dialled is the last attempt.
	out     outlet
	dialled time.Time
	retry   time.Duration
	// trouble is why nothing can be sent, nil if it can.
	trouble error

	// next is when to step, and pos the place in the heap, -1 for none.
	next time.Time
	pos  int
	// spared is the deadline that was put off because the room was held up.
	spared time.Time
	drops  uint32

	// refusal is why the last packet had no effect, refusals how many in a row.
	refusal  error
	refusals uint64

	// index is the interface that the peer's packets come in by, 0 while unknown.
	index int
	// echo is the socket of the echo packets, nil while none were sent.
	echo *echoway

	controlIn, controlOut, echoIn, echoOut uint64
	ups, downs                             uint64
	wasUp                                  bool
}

// apply brings the sessions in line with what is wanted.
func (r *Room) apply(now time.Time) {
	want := r.wanted.Load()
	if want == nil || want == r.applied {
		return
	}
	r.applied = want
	for key, s := range r.sessions {
		if _, ok := (*want)[key]; !ok {
			r.remove(s, now)
		}
	}
	for key, params := range *want {
		params = possible(key, params)
		s := r.sessions[key]
		if s == nil {
			r.add(key, params, now)
			continue
		}
		if s.params == params {
			continue
		}
		s.params = params
		if s.bfd != nil {
			r.stepSession(s, now, bfd.Event{Kind: bfd.Configured, Parameters: params})
		}
	}
}

// possible takes the echo function out where it cannot work: routers do not
// forward to link-local addresses, and several hops have no echo (RFC 5883,
// section 3).
func possible(key observed.BFDPeer, p desired.BFDParameters) desired.BFDParameters {
	if key.Multihop || key.Remote.IsLinkLocalUnicast() {
		p.Echo, p.EchoInterval = false, 0
	}
	return p
}

// add begins a session; open opens its sockets.
func (r *Room) add(key observed.BFDPeer, params desired.BFDParameters, now time.Time) {
	s := &session{key: key, params: params, door: doorOf(key), begun: now, pos: -1}
	r.sessions[key] = s
	// One that is about to leave the same peer would confuse it.
	for old := range r.leaving {
		if old.key == key {
			r.discard(old)
		}
	}
	r.byRemote[key.Remote] = append(r.byRemote[key.Remote], s)
	r.timers.set(s, now)
	r.changed = true
}

// remove ends a session. Its peer is told, for as long as it takes.
func (r *Room) remove(s *session, now time.Time) {
	delete(r.sessions, s.key)
	r.forgetRemote(s)
	r.changed = true
	r.leaving[s] = struct{}{}
	if s.bfd == nil {
		r.discard(s)
		return
	}
	r.stepSession(s, now, bfd.Event{Kind: bfd.Shut})
}

// leave ends all sessions.
func (r *Room) leave(now time.Time) {
	for _, s := range r.sessions {
		r.remove(s, now)
	}
}

func (r *Room) forgetRemote(s *session) {
	rest := slices.DeleteFunc(r.byRemote[s.key.Remote], func(o *session) bool { return o == s })
	if len(rest) == 0 {
		delete(r.byRemote, s.key.Remote)
		return
	}
	r.byRemote[s.key.Remote] = rest
}

// discard forgets a session that has left, and closes the sockets that nobody
// else needs.
func (r *Room) discard(s *session) {
	delete(r.leaving, s)
	r.timers.set(s, time.Time{})
	if s.out != nil {
		_ = s.out.Close()
		s.out = nil
	}
	if s.bfd != nil {
		delete(r.byDiscr, s.bfd.Status().Local)
	}
	r.dropEcho(s)
	for _, rest := range []func(func(*session) bool) bool{r.anySession, r.anyLeaving} {
		if rest(func(o *session) bool { return o.door == s.door }) {
			return
		}
	}
	if w := r.doors[s.door]; w != nil {
		r.closing = append(r.closing, w.in)
		delete(r.doors, s.door)
	}
}

func (r *Room) anySession(is func(*session) bool) bool {
	for _, s := range r.sessions {
		if is(s) {
			return true
		}
	}
	return false
}

func (r *Room) anyLeaving(is func(*session) bool) bool {
	for s := range r.leaving {
		if is(s) {
			return true
		}
	}
	return false
}

func (r *Room) closeAll() {
	for s := range r.leaving {
		r.discard(s)
	}
	for _, s := range r.sessions {
		r.remove(s, time.Now())
		r.discard(s)
	}
}

// open makes sessions of those that are due and have none yet.
func (r *Room) open(now time.Time) {
	for len(r.timers) > 0 {
		s := r.timers[0]
		if s.bfd != nil || s.next.After(now) {
			return
		}
		if err := r.openOne(s, now); err != nil {
			s.retry = min(max(2*s.retry, retryLeast), retryMost)
			r.timers.set(s, now.Add(s.retry))
			s.sendFailed(err)
			r.changed = true
		}
	}
}

func (r *Room) openOne(s *session, now time.Time) error {
	w := r.doors[s.door]
	if w == nil {
		in, err := r.kernel.Listen(s.door)
		if err != nil {
			return err
		}
		d := s.door
		w = r.watch(in, d.String(), func(g *datagram, now time.Time) { r.receive(d, g, now) })
		r.doors[d] = w
	}
	out, err := r.kernel.Dial(s.key)
	if err != nil {
		return err
	}
	s.out, s.dialled, s.trouble, s.drops, s.index = out, now, nil, w.in.Drops(), out.Index()
	cfg := bfd.Config{
		Discriminator: r.discriminator(), Multihop: s.key.Multihop, Seed: r.rng.Uint64(), Grain: grain, Epoch: r.epoch,
		Loops: !s.key.Multihop && s.params.EchoInterval > 0 && r.kernel.Loops(out.Index(), s.key.Remote.Is6()),
	}
	s.bfd = bfd.New(now, cfg, s.params)
	r.byDiscr[cfg.Discriminator] = s
	r.changed = true
	r.stepSession(s, now, bfd.Event{Kind: bfd.Tick})
	return nil
}

// redial opens the sending socket of a running session again, at most every
// retryLeast.
func (r *Room) redial(s *session, now time.Time) bool {
	if now.Sub(s.dialled) < retryLeast {
		return false
	}
	s.dialled = now
	out, err := r.kernel.Dial(s.key)
	if err != nil {
		s.sendFailed(err)
		r.changed = true
		return false
	}
	s.out = out
	return true
}

// comesBy tells whether a packet came in where the session's peer is.
func (s *session) comesBy(g *datagram) bool {
	return s.key.Interface == "" || s.out != nil && s.out.Index() == g.Index
}

func (s *session) sendFailed(err error) { s.trouble = err }

func (s *session) refused(err error) {
	s.refusal = err
	s.refusals++
}

// note writes down what became of a session.
func (r *Room) note(s *session, now time.Time) {
	r.changed = true
	st := s.bfd.Status()
	up := st.State == bfd.Up
	if up == s.wasUp {
		return
	}
	s.wasUp = up
	if up {
		s.ups++
		s.refusals = 0
		r.log.Info("BFD session is up", "peer", label(s.key), "detection", st.Detect.String())
		return
	}
	s.downs++
	if st.State == bfd.AdminDown {
		r.log.Info("BFD session is ended", "peer", label(s.key))
		return
	}
	o := s.observed()
	r.log.Warn("BFD session is down", "peer", label(s.key), "reason", string(o.Reason), "message", o.Message)
}
