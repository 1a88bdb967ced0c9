package bfd

import "time"

// pollState is where a poll sequence is (RFC 5880, section 6.5).
type pollState uint8

const (
	pollNone pollState = iota
	// pollWanted: one packet goes out without the poll bit first, so that a late
	// answer to an earlier poll is not taken for one to this.
	pollWanted
	polling
	// pollingOld: what the peer is asked to confirm changed once more, so the
	// answer may be to the older wish.
	pollingOld
)

// wishes are the intervals that we want now (RFC 5880, section 6.8.3).
func (s *Session) wishes() (minTx, minRx time.Duration) {
	minTx, minRx = s.params.TransmitInterval, s.params.ReceiveInterval
	if s.state != Up {
		// "When bfd.SessionState is not Up, the system MUST set
		// bfd.DesiredMinTxInterval to a value of not less than one second."
		minTx = max(minTx, slow)
	}
	if s.echoing() {
		// "When the Echo function is active, a system SHOULD set
		// bfd.RequiredMinRxInterval to a value of not less than one second."
		minRx = max(minRx, slow)
	}
	return minTx, minRx
}

// settle brings intervals, poll sequence and deadlines in line with the state.
func (s *Session) settle(now time.Time) {
	minTx, minRx := s.wishes()
	if minTx != s.minTx || minRx != s.minRx {
		// "If bfd.DesiredMinTxInterval is increased and bfd.SessionState is Up,
		// the actual transmission interval used MUST NOT change until the Poll
		// Sequence has terminated." "If bfd.RequiredMinRxInterval is reduced
		// and bfd.SessionState is Up, the previous value MUST be used when
		// calculating the detection time until the Poll Sequence has terminated."
		s.txUsed, s.rxUsed = min(s.txUsed, minTx), max(s.rxUsed, minRx)
		s.minTx, s.minRx = minTx, minRx
		s.startPoll()
	}
	if s.state != Up {
		s.txUsed = s.minTx
	}
	// The detection time waits for the answer in other states as well: the peer
	// has not heard of a shorter interval before.
	if s.poll == pollNone {
		s.txUsed, s.rxUsed = s.minTx, s.minRx
	}
	if s.state == AdminDown {
		s.deadline = time.Time{}
	} else if !s.heard.IsZero() {
		s.deadline = s.heard.Add(s.detection())
	}
	s.rearm(now)
}

func (s *Session) startPoll() {
	switch {
	case s.remote == 0 || s.state == AdminDown:
		// Nobody is there to answer; the first packet tells the values anyway.
		s.poll = pollNone
	case s.poll == polling:
		s.poll = pollingOld
	case s.poll == pollNone:
		s.poll = polling
	}
}

// finishPoll is the peer's answer to a poll.
func (s *Session) finishPoll() {
	switch s.poll {
	case polling:
		s.poll = pollNone
	case pollingOld:
		s.poll = pollWanted
	}
}

// interval is the one between control packets, before jitter: "the larger of
// bfd.DesiredMinTxInterval and bfd.RemoteMinRxInterval" (RFC 5880, section 6.8.7).
func (s *Session) interval() time.Duration { return max(s.txUsed, s.remoteMinRx) }

// detection is the time after which silence means that the peer is gone: its
// multiplier times the agreed interval of its packets (RFC 5880, section 6.8.4).
func (s *Session) detection() time.Duration {
	return time.Duration(s.remoteMult) * max(s.rxUsed, s.remoteMinTx)
}

// mute tells whether periodic packets must not be sent (RFC 5880, section
// 6.8.7). A peer in demand mode does not need ours, but takes them.
func (s *Session) mute() bool {
	// "A system MUST NOT transmit BFD Control packets if bfd.RemoteDiscr is
	// zero and the system is taking the Passive role", nor "periodically
	// transmit BFD Control packets if bfd.RemoteMinRxInterval is zero".
	return s.remote == 0 && s.params.Passive || s.remoteMinRx == 0
}

// rearm moves the next packet. An interval that shrinks counts from the last
// packet, not from the next: the peer's detection time has shrunk as well.
func (s *Session) rearm(now time.Time) {
	if s.mute() || s.state == AdminDown && !now.Before(s.ended) {
		s.nextTx = time.Time{}
		return
	}
	at := s.aligned(s.lastTx.Add(scaled(s.interval(), s.stretch)))
	if s.nextTx.IsZero() || at.Before(s.nextTx) {
		s.nextTx = at
	}
}

// aligned moves a time to the grain, to the earlier side unless the interval
// would lose more than the jitter's quarter.
func (s *Session) aligned(at time.Time) time.Time {
	grain := s.cfg.Grain
	if grain == 0 || s.interval() < 10*grain {
		return at
	}
	at = at.Add(-(at.Sub(s.cfg.Epoch) % grain))
	if at.Before(s.lastTx.Add(scaled(s.interval(), full*75/100))) && s.told.My != 0 {
		at = at.Add(grain)
	}
	return at
}

// draw chooses the jitter of the next interval: "reduced by a random value of 0
// to 25%", and "no more than 90% and no less than 75%" if the peer would miss
// us after a single packet (RFC 5880, section 6.8.7).
func (s *Session) draw() {
	if s.params.DetectMultiplier == 1 {
		s.stretch = full*75/100 + s.rng.below(full*15/100)
		return
	}
	s.stretch = full*75/100 + s.rng.below(full*25/100)
}

func (s *Session) due(now time.Time) bool { return !s.nextTx.IsZero() && !now.Before(s.nextTx) }

// next is when time alone changes something.
func (s *Session) next(now time.Time) time.Time {
	if s.state == AdminDown {
		if s.Done(now) {
			return time.Time{}
		}
		return earlier(s.nextTx, s.ended)
	}
	return earlier(earlier(s.nextTx, s.deadline), earlier(s.echo.next, s.held))
}

// Expires is when the peer counts as gone if nothing is heard; zero while
// nothing is expected.
func (s *Session) Expires() time.Time { return s.deadline }

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// full is the unit of scaled.
const full = 1 << 20

func scaled(d time.Duration, part uint64) time.Duration {
	return time.Duration(uint64(d/1024) * part / (full / 1024))
}

// rng is a small generator (splitmix64): jitter needs no more, and a session is
// then a function of its seed.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below returns a number from 0 to n.
func (r *rng) below(n uint64) uint64 { return r.next() % (n + 1) }
