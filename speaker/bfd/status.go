package bfd

import "time"

// Status is what is known of a session. Values are comparable.
type Status struct {
	State State
	Since time.Time
	// WasUp is true once the session has been Up.
	WasUp bool
	// Diag says why the session left Up the last time; RemoteDiag what the peer
	// says of its own.
	Diag, RemoteDiag Diag
	RemoteState      State
	// RemoteLeft is true once the peer has said AdminDown, until the session is
	// Up again. Its silence after that is no failure (RFC 5882, section 3.2).
	RemoteLeft bool
	// Local and Remote are the discriminators, Remote 0 while it is unknown.
	Local, Remote uint32
	// Transmit is the interval of our packets, Detect the detection time; both
	// before jitter, zero while the peer is not known.
	Transmit, Detect time.Duration
	// Held is how long the session is kept Down after it fell, zero if it is not.
	Held time.Duration
	// Echo tells whether echo packets are sent.
	Echo bool
}

// Status describes the session.
func (s *Session) Status() Status {
	st := Status{
		State: s.state, Since: s.since, WasUp: s.wasUp, Diag: s.diag, RemoteDiag: s.remoteDiag,
		RemoteState: s.remoteState, RemoteLeft: s.left, Local: s.cfg.Discriminator, Remote: s.remote, Echo: s.echoing(),
	}
	if s.remote != 0 {
		st.Transmit, st.Detect = s.interval(), s.detection()
	}
	if !s.held.IsZero() {
		st.Held = s.pause
	}
	return st
}
