package bfd

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"time"
)

// AuthType is the kind of an authentication section (RFC 5880, section 4.1).
type AuthType uint8

// The kinds. We speak the two with SHA1; the others are only recognised.
const (
	NoAuth AuthType = iota
	SimplePassword
	KeyedMD5
	MeticulousKeyedMD5
	KeyedSHA1
	MeticulousKeyedSHA1
)

const (
	// sha1Len is the length of an authentication section with SHA1 (RFC 5880,
	// section 4.4); the digest is its last 20 bytes.
	sha1Len      = 28
	digestOffset = 8
)

// Auth is an authentication section.
type Auth struct {
	Type     AuthType
	KeyID    uint8
	Sequence uint32
}

// Why a session refuses a packet that Decode accepted.
var (
	// ErrAuthMissing: we want authentication and the packet has none, or the
	// other way round.
	ErrAuthMissing  = errors.New("packet is not authenticated")
	ErrAuthExtra    = errors.New("packet is authenticated, and no key is configured")
	ErrAuthType     = errors.New("packet has another authentication type than the one configured")
	ErrAuthKey      = errors.New("packet has another key ID than the one configured")
	ErrAuthSequence = errors.New("sequence number is outside of the window")
	ErrAuthDigest   = errors.New("digest is wrong: the keys differ")
)

// decodeAuth reads an authentication section. Sections of the kinds that we do
// not speak are only measured.
func decodeAuth(b []byte, a *Auth) error {
	// RFC 5880, sections 6.7.2 to 6.7.4: the length must be right for the type.
	if int(b[1]) != len(b) {
		return ErrAuthMalformed
	}
	a.Type = AuthType(b[0])
	switch a.Type {
	case KeyedSHA1, MeticulousKeyedSHA1:
		if len(b) != sha1Len {
			return ErrAuthMalformed
		}
		a.KeyID, a.Sequence = b[2], binary.BigEndian.Uint32(b[4:])
	case NoAuth:
		// Zero is reserved, and says the opposite of the A bit.
		return ErrAuthMalformed
	}
	return nil
}

// appendAuth writes the section and the digest of the packet that begins at
// start (RFC 5880, section 6.7.4).
func appendAuth(b []byte, start int, a *Auth, key string) []byte {
	b = append(b, byte(a.Type), sha1Len, a.KeyID, 0)
	b = binary.BigEndian.AppendUint32(b, a.Sequence)
	var padded [sha1.Size]byte
	copy(padded[:], key)
	b = append(b, padded[:]...)
	digest := sha1.Sum(b[start:])
	copy(b[len(b)-sha1.Size:], digest[:])
	return b
}

// digestOK checks the digest of a packet that Decode has accepted.
func digestOK(raw []byte, key string) bool {
	var copied [MaxLen]byte
	length := int(raw[3])
	if length != MaxLen || length > len(raw) {
		return false
	}
	copy(copied[:], raw[:length])
	at := headerLen + digestOffset
	clear(copied[at:])
	copy(copied[at:], key)
	digest := sha1.Sum(copied[:])
	return subtle.ConstantTimeCompare(digest[:], raw[at:length]) == 1
}

// authenticate does the checks of RFC 5880, sections 6.7.1 and 6.7.4, and
// remembers the sequence number of a good packet.
func (s *Session) authenticate(now time.Time, p *Packet, raw []byte) error {
	want := s.authType()
	// RFC 5880, section 6.8.1: bfd.AuthSeqKnown "MUST be set to zero after no
	// packets have been received on this session for at least twice the
	// Detection Time".
	if !s.seqUntil.IsZero() && !now.Before(s.seqUntil) {
		s.seqKnown = false
	}
	switch {
	case want == NoAuth && p.Auth.Type == NoAuth:
		return nil
	case want == NoAuth:
		return ErrAuthExtra
	case p.Auth.Type == NoAuth:
		return ErrAuthMissing
	case p.Auth.Type != want:
		return ErrAuthType
	case p.Auth.KeyID != s.params.Auth.KeyID:
		return ErrAuthKey
	case s.seqKnown && !s.inWindow(p.Auth.Sequence):
		return ErrAuthSequence
	case !digestOK(raw, s.params.Auth.Key):
		return ErrAuthDigest
	}
	s.seqKnown, s.seqIn, s.seqUntil = true, p.Auth.Sequence, time.Time{}
	return nil
}

func (s *Session) authType() AuthType {
	switch {
	case s.params.Auth.Key == "":
		return NoAuth
	case s.params.Auth.Meticulous:
		return MeticulousKeyedSHA1
	}
	return KeyedSHA1
}

// inWindow accepts the numbers of the next three detection times' packets, in
// the circular space of 32 bits: "RcvAuthSeq to RcvAuthSeq+(3*Detect Mult)
// inclusive (when Keyed SHA1), RcvAuthSeq+1 to RcvAuthSeq+(3*Detect Mult)
// inclusive (when Meticulous)".
func (s *Session) inWindow(seq uint32) bool {
	ahead := seq - s.seqIn
	return ahead <= 3*uint32(s.params.DetectMultiplier) && (ahead > 0 || !s.params.Auth.Meticulous)
}

// sign gives the packet the section that is configured.
func (s *Session) sign(p *Packet) {
	p.Auth = Auth{Type: s.authType()}
	if p.Auth.Type == NoAuth {
		return
	}
	p.Auth.KeyID, p.Auth.Sequence = s.params.Auth.KeyID, s.seqOut
	// RFC 5880, section 6.7.4: meticulous increments with every packet; the
	// other kind occasionally, and here as well, which costs nothing.
	s.seqOut++
}
