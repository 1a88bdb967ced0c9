package bfd

import "time"

// transmit writes a packet (RFC 5880, section 6.8.7).
func (s *Session) transmit(now time.Time, final bool, out *Output) {
	p := &s.out[0]
	*p = s.content()
	switch {
	case final:
		// "A BFD Control packet with the Final bit set": at once, whatever the
		// timer says, and never with the poll bit (section 6.5).
		p.Final = true
	case s.poll == polling || s.poll == pollingOld:
		p.Poll = true
	case s.poll == pollWanted:
		s.poll = polling
	}
	s.told = *p
	s.told.Poll, s.told.Final = false, false
	s.sign(p)
	out.Packets = s.out[:]
	s.lastTx = now
	s.draw()
	s.nextTx = time.Time{}
	s.rearm(now)
}

// content is what the peer is told, the bits and the section aside.
func (s *Session) content() Packet {
	p := Packet{
		Diag: s.diag, State: s.state, DetectMultiplier: s.params.DetectMultiplier,
		My: s.cfg.Discriminator, Your: s.remote,
		DesiredMinTx: s.minTx, RequiredMinRx: s.minRx,
	}
	if s.cfg.Loops && !s.cfg.Multihop {
		p.RequiredMinEchoRx = s.params.EchoInterval
	}
	return p
}

// differs tells whether the peer must hear something new before the next
// periodic packet: RFC 5880, section 6.8.7, "when the contents of that packet
// would differ from that in the previously transmitted packet". The first
// packet waits for its time, and so does the mere knowledge of the peer.
func (s *Session) differs() bool {
	if s.mute() || s.told.My == 0 && s.remote == 0 {
		return false
	}
	p := s.content()
	p.Your = s.told.Your
	return p != s.told
}
