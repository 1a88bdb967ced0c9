package bfd

import (
	"encoding/binary"
	"time"
)

// echo is the sender's side of the echo function (RFC 5880, section 6.4, and
// RFC 5881, section 4).
type echo struct {
	// next is when the next packet is due; zero while none are sent.
	next time.Time
	// last is the number of the last packet, outstanding how many went out since
	// one came back.
	last, outstanding uint32
}

// echoing tells whether echo packets are sent: the session is Up, and the peer
// takes them ("a non-zero Required Min Echo RX Interval").
func (s *Session) echoing() bool {
	return s.params.Echo && s.state == Up && s.remoteMinEcho > 0 && !s.cfg.Multihop
}

// stepEcho sends what is due, and takes the session down when a multiplier of
// packets in a row did not come back. Packets are counted, not time, so that a
// pause on our side proves nothing.
func (s *Session) stepEcho(now time.Time, out *Output) {
	e := &s.echo
	if !s.echoing() {
		e.next, e.outstanding = time.Time{}, 0
		return
	}
	if e.next.IsZero() {
		e.next = now
	}
	if now.Before(e.next) {
		return
	}
	if e.outstanding >= uint32(s.params.DetectMultiplier) {
		s.enter(now, Down, DiagEchoFailed)
		e.next, e.outstanding = time.Time{}, 0
		s.settle(now)
		s.transmit(now, false, out)
		return
	}
	e.last++
	e.outstanding++
	out.Echo, out.EchoSequence = true, e.last
	// RFC 5880, section 6.8.9: "no less than the value advertised by the remote
	// system in Required Min Echo RX Interval", with a jitter of up to 25%.
	gap := max(s.params.EchoInterval, s.remoteMinEcho)
	e.next = now.Add(scaled(gap, full*75/100+s.rng.below(full*25/100)))
}

// returned notes a packet that came back, the latest or one that was on its way
// meanwhile.
func (e *echo) returned(sequence uint32) {
	if behind := e.last - sequence; behind < e.outstanding {
		e.outstanding = behind
	}
}

const (
	// EchoLen is the length of our echo packets. Their content is our own
	// business (RFC 5880, section 6.8.8): a word that tells them from others',
	// our discriminator, a number, and a word that only we know.
	EchoLen   = 20
	echoMagic = 0x48644563
)

// AppendEcho writes an echo packet behind b.
func AppendEcho(b []byte, discriminator, sequence uint32, secret uint64) []byte {
	b = binary.BigEndian.AppendUint32(b, echoMagic)
	b = binary.BigEndian.AppendUint32(b, discriminator)
	b = binary.BigEndian.AppendUint32(b, sequence)
	return binary.BigEndian.AppendUint64(b, secret^uint64(discriminator)<<32^uint64(sequence))
}

// DecodeEcho reads an echo packet that AppendEcho wrote with the same secret.
func DecodeEcho(b []byte, secret uint64) (discriminator, sequence uint32, ok bool) {
	if len(b) < EchoLen || binary.BigEndian.Uint32(b) != echoMagic {
		return 0, 0, false
	}
	discriminator, sequence = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	want := secret ^ uint64(discriminator)<<32 ^ uint64(sequence)
	return discriminator, sequence, binary.BigEndian.Uint64(b[12:]) == want
}
