package bfd

import (
	"time"

	"github.com/heraldlb/herald/speaker/desired"
)

// Parameters are what is configured for a session.
type Parameters = desired.BFDParameters

// Config is what stays the same during a session's life.
type Config struct {
	// Discriminator is ours, unique on this node and not zero (RFC 5880,
	// section 6.8.1: it should be random).
	Discriminator uint32
	// Multihop sessions have no echo function (RFC 5883, section 3).
	Multihop bool
	// Loops says that this host would send the peer's echo packets back. If
	// not, the peer is told not to send any.
	Loops bool
	// Seed feeds the jitter and the first sequence number.
	Seed uint64
	// Grain is the distance of the moments, counted from Epoch, at which
	// packets are sent rather than in between, so that many sessions are due at
	// once. Zero for any moment.
	Grain time.Duration
	Epoch time.Time
}

// slow is the least interval of a session that is not Up, and of one whose
// liveness the echo function watches (RFC 5880, section 6.8.3).
const slow = time.Second

// firstTx is the longest time that a new session waits with its first packet.
const firstTx = 200 * time.Millisecond

// An EventKind tells events apart.
type EventKind uint8

// The events.
const (
	// Tick says only that time has passed. Everything that arrived before now
	// must have been given to the session already.
	Tick EventKind = iota
	// Received is a packet that Decode accepted.
	Received
	// Configured are other parameters.
	Configured
	// Shut switches the session off.
	Shut
	// EchoReturned is an echo packet of ours that came back.
	EchoReturned
	// Deaf says that packets may have been lost on our side of the socket, so
	// that silence proves nothing.
	Deaf
)

// An Event is something that happens to a session.
type Event struct {
	Kind EventKind
	// Packet is the one received, Raw its bytes. Both are only read, and not
	// after Step.
	Packet *Packet
	Raw    []byte
	// At is when the packet arrived, if that was before now; silence is judged
	// by it.
	At time.Time
	// Parameters are the new ones.
	Parameters Parameters
	// Echo is the sequence number of an echo packet.
	Echo uint32
}

// Output is what is to be done after a step.
type Output struct {
	// Packets are to be sent at once, in this order. The slice is valid until
	// the next step.
	Packets []Packet
	// Echo says to send an echo packet with the number EchoSequence.
	Echo         bool
	EchoSequence uint32
	// Next is when to step with a Tick at the latest; zero for never.
	Next time.Time
	// Changed says that Status is different now.
	Changed bool
	// Refused says why a received packet had no effect; nil if it had.
	Refused error
}

// A Session is one side of a BFD session (RFC 5880, section 6.8). It is not
// safe for use by several goroutines.
type Session struct {
	cfg    Config
	params Parameters
	rng    rng

	// The state variables of RFC 5880, section 6.8.1.
	state, remoteState       State
	remote                   uint32
	diag, remoteDiag         Diag
	remoteMinRx, remoteMinTx time.Duration
	remoteMinEcho            time.Duration
	remoteMult               uint8
	remoteDemand             bool
	seqKnown                 bool
	seqIn, seqOut            uint32
	seqUntil                 time.Time // when seqIn is forgotten, once nothing is heard

	// minTx and minRx are what we tell the peer; txUsed and rxUsed are what we
	// go by, which differ until a poll sequence ends.
	minTx, minRx   time.Duration
	txUsed, rxUsed time.Duration
	poll           pollState

	heard    time.Time // when the last good packet arrived
	deadline time.Time // when the peer counts as gone; zero while nothing is expected
	lastTx   time.Time
	nextTx   time.Time // zero while nothing is due
	stretch  uint64    // the jitter drawn for nextTx
	told     Packet    // what the peer was told last, see differs
	ended    time.Time // when to stop sending AdminDown
	wasUp    bool
	left     bool // the peer switched the session off, and has not been Up since
	since    time.Time
	// held is until when the session stays Down, zero for not at all; pause is how
	// long that was the last time.
	held     time.Time
	pause    time.Duration
	reported Status
	out      [1]Packet
	echo     echo
}

// New starts a session in state Down at now.
func New(now time.Time, cfg Config, params Parameters) *Session {
	s := &Session{cfg: cfg, params: params, rng: rng(cfg.Seed), state: Down, since: now}
	s.forget()
	s.seqOut = uint32(s.rng.next())
	s.minTx, s.minRx = s.wishes()
	s.txUsed, s.rxUsed = s.minTx, s.minRx
	s.lastTx = now
	// The first packets of many sessions are spread.
	s.stretch = s.rng.below(full)
	s.nextTx = now.Add(scaled(firstTx, s.stretch))
	s.reported = s.Status()
	return s
}

// Step is the whole session: what happens at now goes in, and what is to be
// done comes out. now never goes back.
func (s *Session) Step(now time.Time, e Event) Output {
	var out Output
	final := false
	switch e.Kind {
	case Received:
		final, out.Refused = s.receive(now, e)
	case Configured:
		s.configure(now, e.Parameters)
	case Shut:
		s.shut(now)
	case EchoReturned:
		s.echo.returned(e.Echo)
	case Deaf:
		s.deaf(now)
	case Tick:
		s.expire(now)
	}
	s.settle(now)
	if final || s.due(now) || s.differs() {
		s.transmit(now, final, &out)
	}
	s.stepEcho(now, &out)
	out.Next = s.next(now)
	if status := s.Status(); status != s.reported {
		s.reported, out.Changed = status, true
	}
	return out
}

// receive is RFC 5880, section 6.8.6, from where Decode and the search for the
// session end. It tells whether the peer wants an answer.
func (s *Session) receive(now time.Time, e Event) (final bool, err error) {
	p := e.Packet
	if p.Your != 0 && p.Your != s.cfg.Discriminator {
		return false, ErrYourDiscr
	}
	if err := s.authenticate(now, p, e.Raw); err != nil {
		return false, err
	}
	s.remote = p.My
	s.remoteState, s.remoteDiag, s.remoteDemand = p.State, p.Diag, p.Demand
	s.remoteMinRx, s.remoteMinTx, s.remoteMult = p.RequiredMinRx, p.DesiredMinTx, p.DetectMultiplier
	s.remoteMinEcho = p.RequiredMinEchoRx
	s.left = s.left || p.State == AdminDown
	if p.Final {
		s.finishPoll()
	}
	if s.state == AdminDown {
		// "If bfd.SessionState is AdminDown, discard the packet."
		return false, nil
	}
	if e.At.IsZero() || e.At.After(now) {
		e.At = now
	}
	if e.At.After(s.heard) {
		s.heard = e.At
	}
	s.follow(now)
	return p.Poll, nil
}

// Transition is the state machine of RFC 5880, section 6.8.6: our next state
// after a packet from a peer in state remote.
func Transition(local, remote State) State {
	switch {
	case local == AdminDown:
		return AdminDown
	case remote == AdminDown:
		return Down
	case local == Down && remote == Down:
		return Init
	case local == Down && remote == Init:
		return Up
	case local == Init && (remote == Init || remote == Up):
		return Up
	case local == Up && remote == Down:
		return Down
	}
	return local
}

// follow goes where the peer's state leads, unless the session is held down.
func (s *Session) follow(now time.Time) {
	next := Transition(s.state, s.remoteState)
	if next == s.state || s.state == Down && now.Before(s.held) {
		return
	}
	s.enter(now, next, DiagNeighborDown)
}

// enter changes the state; diag is told to the peer if it is for the worse.
func (s *Session) enter(now time.Time, next State, diag Diag) {
	switch {
	case next == Up:
		s.wasUp, s.left = true, false
		diag = DiagNone
	case next == Init:
		diag = s.diag
	case s.state == Up:
		s.hold(now)
	}
	s.state, s.diag, s.since = next, diag, now
}

const (
	// holdLeast is how long a session that was Up stays Down. Without it the
	// peers could be Up again within a millisecond, unseen by those who rely on
	// BFD: so it is when echo packets fail and control packets do not.
	holdLeast = time.Second
	// holdMost bounds the doubling when a session falls again within steady.
	holdMost = time.Minute
	steady   = time.Minute
)

// hold keeps the session down for a while (RFC 5882, section 3.2, leaves
// dampening to the implementation).
func (s *Session) hold(now time.Time) {
	if s.pause *= 2; s.pause == 0 || now.Sub(s.since) >= steady {
		s.pause = holdLeast
	}
	s.pause = min(s.pause, holdMost)
	s.held = now.Add(s.pause)
}

// expire notices that the peer is gone (RFC 5880, section 6.8.4).
func (s *Session) expire(now time.Time) {
	if !s.held.IsZero() && !now.Before(s.held) {
		s.held = time.Time{}
		if s.remote != 0 {
			s.follow(now)
		}
	}
	if s.deadline.IsZero() || now.Before(s.deadline) {
		return
	}
	if s.state == Init || s.state == Up {
		s.enter(now, Down, DiagExpired)
	}
	s.seqUntil = s.heard.Add(2 * s.detection())
	s.forget()
}

// forget returns to not knowing the peer. RFC 5880, section 6.8.1: the remote
// discriminator must be zero after a detection time of silence.
func (s *Session) forget() {
	s.remote, s.remoteState, s.remoteDemand = 0, Down, false
	s.remoteMinRx, s.remoteMinTx, s.remoteMinEcho, s.remoteMult = time.Microsecond, 0, 0, 0
	s.heard, s.deadline = time.Time{}, time.Time{}
	s.poll = pollNone
}

// deaf starts the detection anew.
func (s *Session) deaf(now time.Time) {
	if !s.heard.IsZero() {
		s.heard = now
	}
	s.echo.outstanding = 0
}

// configure takes other parameters; settle draws the conclusions.
func (s *Session) configure(now time.Time, p Parameters) {
	if p.Auth != s.params.Auth {
		// Another key begins another sequence.
		s.seqKnown = false
	}
	s.params = p
	if s.state == AdminDown {
		s.state, s.diag, s.since, s.ended = Down, DiagNone, now, time.Time{}
		s.forget()
	}
}

// shut switches the session off (RFC 5880, section 6.8.16). The peer is told
// for as long as it would take it to notice our silence.
func (s *Session) shut(now time.Time) {
	if s.state == AdminDown {
		return
	}
	rate := s.interval()
	s.state, s.diag, s.since, s.held = AdminDown, DiagAdminDown, now, time.Time{}
	s.ended = now.Add(time.Duration(s.params.DetectMultiplier) * rate)
	s.poll = pollNone
}

// Done tells whether a session that was shut has said all that it will say: the
// time is over, or no packet is due before that.
func (s *Session) Done(now time.Time) bool {
	return s.state == AdminDown && (!now.Before(s.ended) || s.nextTx.IsZero() || !s.nextTx.Before(s.ended))
}
