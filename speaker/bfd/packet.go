package bfd

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/heraldlb/herald/speaker/observed"
)

// State is the state of a session, by its value on the wire.
type State = observed.BFDState

// The states (RFC 5880, section 4.1).
const (
	AdminDown = observed.BFDAdminDown
	Down      = observed.BFDDown
	Init      = observed.BFDInit
	Up        = observed.BFDUp
)

// Diag says why a session last left its state (RFC 5880, section 4.1).
type Diag uint8

// The diagnostics that we give.
const (
	DiagNone Diag = iota
	DiagExpired
	DiagEchoFailed
	DiagNeighborDown
	DiagForwardingReset
	DiagPathDown
	DiagConcatenatedPathDown
	DiagAdminDown
	DiagReverseConcatenatedPathDown
)

func (d Diag) String() string {
	if d > DiagReverseConcatenatedPathDown {
		return "an unknown diagnostic"
	}
	return [...]string{
		"no diagnostic", "control detection time expired", "echo function failed", "neighbor signaled session down",
		"forwarding plane reset", "path down", "concatenated path down", "administratively down", "reverse concatenated path down",
	}[d]
}

const (
	version      = 1
	headerLen    = 24
	minAuthedLen = 26
	// MaxLen is the longest packet that we send.
	MaxLen = headerLen + sha1Len

	flagPoll, flagFinal, flagCPI, flagAuth, flagDemand, flagMultipoint = 0x20, 0x10, 0x08, 0x04, 0x02, 0x01
)

// A Packet is a control packet (RFC 5880, section 4.1).
type Packet struct {
	Diag             Diag
	State            State
	Poll, Final      bool
	Independent      bool // the sender's BFD survives its control plane
	Demand           bool
	DetectMultiplier uint8
	// My and Your are the discriminators, seen from the sender.
	My, Your uint32
	// The intervals have microseconds on the wire.
	DesiredMinTx, RequiredMinRx, RequiredMinEchoRx time.Duration
	// Auth is the authentication section; its Type is NoAuth if there is none.
	Auth Auth
}

// Why Decode refuses a packet (RFC 5880, section 6.8.6).
var (
	ErrShort         = errors.New("packet is shorter than its header or than it says")
	ErrVersion       = errors.New("version is not 1")
	ErrMultiplier    = errors.New("detect multiplier is zero")
	ErrMultipoint    = errors.New("multipoint bit is set")
	ErrMyDiscr       = errors.New("my discriminator is zero")
	ErrYourDiscr     = errors.New("your discriminator is zero while the state is neither Down nor AdminDown")
	ErrPollFinal     = errors.New("both poll and final bits are set")
	ErrAuthMalformed = errors.New("authentication section does not fit the packet or its type")
)

// Decode reads a control packet and does the checks of RFC 5880, section 6.8.6,
// that need no session. It allocates nothing; p is only valid if err is nil.
// What follows the length that the packet gives is ignored.
func Decode(b []byte, p *Packet) error {
	if len(b) < headerLen {
		return ErrShort
	}
	if b[0]>>5 != version {
		return ErrVersion
	}
	flags, length := b[1], int(b[3])
	if length < headerLen || flags&flagAuth != 0 && length < minAuthedLen || length > len(b) {
		return ErrShort
	}
	if b[2] == 0 {
		return ErrMultiplier
	}
	if flags&flagMultipoint != 0 {
		return ErrMultipoint
	}
	*p = Packet{
		Diag:              Diag(b[0] & 0x1f),
		State:             State(flags >> 6),
		Poll:              flags&flagPoll != 0,
		Final:             flags&flagFinal != 0,
		Independent:       flags&flagCPI != 0,
		Demand:            flags&flagDemand != 0,
		DetectMultiplier:  b[2],
		My:                binary.BigEndian.Uint32(b[4:]),
		Your:              binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:      micros(b[12:]),
		RequiredMinRx:     micros(b[16:]),
		RequiredMinEchoRx: micros(b[20:]),
	}
	switch {
	case p.My == 0:
		return ErrMyDiscr
	case p.Your == 0 && p.State != Down && p.State != AdminDown:
		return ErrYourDiscr
	case p.Poll && p.Final:
		// RFC 5880, section 6.5: a packet never has both.
		return ErrPollFinal
	case flags&flagAuth != 0:
		return decodeAuth(b[headerLen:length], &p.Auth)
	}
	return nil
}

func micros(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

// toMicros never makes a wish faster than it is, nor zero, which means
// something else.
func toMicros(d time.Duration) uint32 {
	us := (d + time.Microsecond - 1) / time.Microsecond
	return uint32(min(max(us, 0), 1<<32-1))
}

// Append writes the packet behind b; key signs it if it has an authentication
// section. With room for MaxLen bytes in b it allocates nothing.
func (p *Packet) Append(b []byte, key string) []byte {
	start := len(b)
	flags := byte(p.State)<<6 | bit(p.Poll, flagPoll) | bit(p.Final, flagFinal) | bit(p.Independent, flagCPI) |
		bit(p.Auth.Type != NoAuth, flagAuth) | bit(p.Demand, flagDemand)
	length := headerLen
	if p.Auth.Type != NoAuth {
		length += sha1Len
	}
	b = append(b, version<<5|byte(p.Diag&0x1f), flags, p.DetectMultiplier, byte(length))
	b = binary.BigEndian.AppendUint32(b, p.My)
	b = binary.BigEndian.AppendUint32(b, p.Your)
	b = binary.BigEndian.AppendUint32(b, toMicros(p.DesiredMinTx))
	b = binary.BigEndian.AppendUint32(b, toMicros(p.RequiredMinRx))
	b = binary.BigEndian.AppendUint32(b, toMicros(p.RequiredMinEchoRx))
	if p.Auth.Type != NoAuth {
		b = appendAuth(b, start, &p.Auth, key)
	}
	return b
}

func bit(set bool, mask byte) byte {
	if set {
		return mask
	}
	return 0
}
