package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/speaker/observed"
)

// The wire format. A message is the byte 'H', a format number, and a list of
// states, each with its length before it. A state is a list of fields: a tag
// byte, a length, a value. A reader skips tags that it does not know and bytes
// behind the part of a value that it knows, and ignores messages of a format
// that it does not know. So a newer speaker may add fields without harm.
//
// The same state has exactly one encoding: fields in tag order, interfaces in
// name order, prefixes sorted.
const (
	magic  = 'H'
	format = 1
)

// Bounds for what is accepted from the wire, and for what is sent.
const (
	maxStates     = 4096
	maxStateSize  = 128 << 10
	maxInterfaces = 1024
	maxPrefixes   = 256
	maxNodeName   = 253 // the longest DNS subdomain, RFC 1123
	maxIfaceName  = 255
)

const (
	tagNode      = 1
	tagVersion   = 2
	tagPhase     = 3
	tagInterface = 4
)

// What is true of an interface. A reader ignores bits that it does not know.
const (
	flagCarrier = 1 << iota
	flagIPv4
	flagIPv6
)

// version orders the states of one node. Epoch is the start time of its
// process in nanoseconds, Seq counts the changes since.
type version struct{ Epoch, Seq uint64 }

func (v version) newer(than version) bool {
	if v.Epoch != than.Epoch {
		return v.Epoch > than.Epoch
	}
	return v.Seq > than.Seq
}

// state is what a member says of itself.
type state struct {
	Node       string
	Version    version
	Phase      observed.Phase
	Interfaces []observed.Interface
}

var errFormat = errors.New("unknown message format")

// appendMessage encodes states as one message.
func appendMessage(b []byte, states ...state) []byte {
	b = append(b, magic, format)
	for _, s := range states {
		body := appendState(nil, s)
		b = binary.AppendUvarint(b, uint64(len(body)))
		b = append(b, body...)
	}
	return b
}

// decodeMessage decodes any bytes. One state that cannot be read does not harm
// the others; the error is then about the first such state.
func decodeMessage(b []byte) ([]state, error) {
	if len(b) < 2 || b[0] != magic || b[1] != format {
		return nil, errFormat
	}
	b = b[2:]
	var states []state
	var first error
	for n := 0; len(b) > 0; n++ {
		if n == maxStates {
			return states, fmt.Errorf("more than %d states in one message", maxStates)
		}
		body, rest, err := cut(b, maxStateSize)
		if err != nil {
			return states, fmt.Errorf("state %d: %w", n, err)
		}
		b = rest
		s, err := decodeState(body)
		if err != nil {
			if first == nil {
				first = fmt.Errorf("state %d: %w", n, err)
			}
			continue
		}
		states = append(states, s)
	}
	return states, first
}

func appendState(b []byte, s state) []byte {
	b = appendField(b, tagNode, []byte(s.Node))
	v := binary.BigEndian.AppendUint64(nil, s.Version.Epoch)
	b = appendField(b, tagVersion, binary.AppendUvarint(v, s.Version.Seq))
	b = appendField(b, tagPhase, []byte{byte(s.Phase)})
	for _, i := range s.Interfaces {
		b = appendField(b, tagInterface, appendInterface(nil, i))
	}
	return b
}

func appendField(b []byte, tag byte, value []byte) []byte {
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(len(value)))
	return append(b, value...)
}

func appendInterface(b []byte, i observed.Interface) []byte {
	b = append(b, byte(len(i.Name)))
	b = append(b, i.Name...)
	var flags byte
	if i.Carrier {
		flags |= flagCarrier
	}
	if i.IPv4 {
		flags |= flagIPv4
	}
	if i.IPv6 {
		flags |= flagIPv6
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(i.Prefixes)))
	for _, p := range i.Prefixes {
		addr := p.Masked().Addr()
		family := byte(6)
		if addr.Is4() {
			family = 4
		}
		b = append(b, family, byte(p.Bits()))
		b = append(b, addr.AsSlice()[:(p.Bits()+7)/8]...)
	}
	return b
}

func decodeState(b []byte) (state, error) {
	var s state
	var versioned bool
	for len(b) > 0 {
		tag := b[0]
		value, rest, err := cut(b[1:], maxStateSize)
		if err != nil {
			return state{}, fmt.Errorf("field %d: %w", tag, err)
		}
		b = rest
		switch tag {
		case tagNode:
			s.Node = string(value)
		case tagVersion:
			if s.Version, err = decodeVersion(value); err != nil {
				return state{}, err
			}
			versioned = true
		case tagPhase:
			if len(value) > 0 {
				s.Phase = knownPhase(value[0])
			}
		case tagInterface:
			if len(s.Interfaces) == maxInterfaces {
				return state{}, fmt.Errorf("more than %d interfaces", maxInterfaces)
			}
			i, err := decodeInterface(value)
			if err != nil {
				return state{}, fmt.Errorf("interface %d: %w", len(s.Interfaces), err)
			}
			s.Interfaces = append(s.Interfaces, i)
		}
	}
	if s.Node == "" || len(s.Node) > maxNodeName {
		return state{}, fmt.Errorf("node name of %d bytes, expected 1 to %d", len(s.Node), maxNodeName)
	}
	if !versioned {
		return state{}, errors.New("no version")
	}
	slices.SortFunc(s.Interfaces, func(a, b observed.Interface) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

func decodeVersion(b []byte) (version, error) {
	if len(b) < 9 {
		return version{}, fmt.Errorf("version of %d bytes, expected at least 9", len(b))
	}
	seq, n := binary.Uvarint(b[8:])
	if n <= 0 {
		return version{}, errors.New("version with a bad counter")
	}
	return version{Epoch: binary.BigEndian.Uint64(b), Seq: seq}, nil
}

func decodeInterface(b []byte) (observed.Interface, error) {
	var i observed.Interface
	if len(b) < 1 || len(b) < 1+int(b[0])+1 {
		return i, errors.New("truncated name")
	}
	n := int(b[0])
	if n == 0 {
		return i, errors.New("empty name")
	}
	i.Name = string(b[1 : 1+n])
	flags := b[1+n]
	i.Carrier, i.IPv4, i.IPv6 = flags&flagCarrier != 0, flags&flagIPv4 != 0, flags&flagIPv6 != 0
	b = b[2+n:]
	count, used := binary.Uvarint(b)
	if used <= 0 || count > maxPrefixes {
		return i, fmt.Errorf("bad number of prefixes, expected at most %d", maxPrefixes)
	}
	b = b[used:]
	for range count {
		p, rest, err := decodePrefix(b)
		if err != nil {
			return i, err
		}
		i.Prefixes = append(i.Prefixes, p)
		b = rest
	}
	sortPrefixes(i.Prefixes)
	return i, nil
}

func decodePrefix(b []byte) (netip.Prefix, []byte, error) {
	if len(b) < 2 {
		return netip.Prefix{}, nil, errors.New("truncated prefix")
	}
	size := map[byte]int{4: 4, 6: 16}[b[0]]
	bits := int(b[1])
	if size == 0 || bits > 8*size {
		return netip.Prefix{}, nil, fmt.Errorf("prefix of family %d with %d bits", b[0], bits)
	}
	n := (bits + 7) / 8
	if len(b) < 2+n {
		return netip.Prefix{}, nil, errors.New("truncated prefix")
	}
	raw := make([]byte, size)
	copy(raw, b[2:2+n])
	addr, _ := netip.AddrFromSlice(raw)
	return netip.PrefixFrom(addr, bits).Masked(), b[2+n:], nil
}

// cut splits a length-prefixed value off b.
func cut(b []byte, limit int) (value, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 {
		return nil, nil, errors.New("bad length")
	}
	b = b[used:]
	if n > uint64(len(b)) || n > uint64(limit) {
		return nil, nil, fmt.Errorf("length %d is more than there is or than is allowed", n)
	}
	return b[:n], b[n:], nil
}

// knownPhase reads a phase. One that this version does not know is treated as
// Starting: such a member is no candidate for anything.
func knownPhase(b byte) observed.Phase {
	if p := observed.Phase(b); p <= observed.Gathering {
		return p
	}
	return observed.Starting
}

// canonical returns the interfaces in the one form that is encoded: sorted,
// masked, without invalid entries, and within the bounds. dropped counts what
// did not fit.
func canonical(in []observed.Interface) (out []observed.Interface, dropped int) {
	for _, i := range in {
		if i.Name == "" || len(i.Name) > maxIfaceName {
			dropped++
			continue
		}
		c := observed.Interface{Name: i.Name, Carrier: i.Carrier, IPv4: i.IPv4, IPv6: i.IPv6}
		for _, p := range i.Prefixes {
			if !p.IsValid() {
				continue
			}
			// An IPv4-mapped prefix has no encoding of its own.
			if p.Addr().Is4In6() {
				if p.Bits() < 96 {
					continue
				}
				p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
			}
			c.Prefixes = append(c.Prefixes, netip.PrefixFrom(p.Addr().WithZone(""), p.Bits()).Masked())
		}
		sortPrefixes(c.Prefixes)
		c.Prefixes = slices.Compact(c.Prefixes)
		if over := len(c.Prefixes) - maxPrefixes; over > 0 {
			c.Prefixes, dropped = c.Prefixes[:maxPrefixes], dropped+over
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b observed.Interface) int { return strings.Compare(a.Name, b.Name) })
	out = slices.CompactFunc(out, func(a, b observed.Interface) bool { return a.Name == b.Name })
	if over := len(out) - maxInterfaces; over > 0 {
		out, dropped = out[:maxInterfaces], dropped+over
	}
	for size := len(appendState(nil, state{Interfaces: out})) + maxNodeName + 32; size > maxStateSize; {
		last := out[len(out)-1]
		out, dropped = out[:len(out)-1], dropped+1
		size -= len(appendField(nil, tagInterface, appendInterface(nil, last)))
	}
	return out, dropped
}

func sortPrefixes(ps []netip.Prefix) {
	slices.SortFunc(ps, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
}

// meta is the part of a member's state that rides in memberlist's own
// metadata, at most 512 bytes: which state is the newest, the phase, and the
// keys that the member accepts, the one that it sends with first.
type meta struct {
	Version version
	Phase   observed.Phase
	Keys    []keyID
}

const maxMetaKeys = 8

func appendMeta(b []byte, m meta) []byte {
	b = append(b, magic, format, byte(m.Phase))
	b = binary.BigEndian.AppendUint64(b, m.Version.Epoch)
	b = binary.BigEndian.AppendUint64(b, m.Version.Seq)
	keys := m.Keys[:min(len(m.Keys), maxMetaKeys)]
	b = append(b, byte(len(keys)))
	for _, k := range keys {
		b = append(b, k[:]...)
	}
	return b
}

func decodeMeta(b []byte) (meta, error) {
	const fixed = 2 + 1 + 8 + 8 + 1
	if len(b) < 2 || b[0] != magic || b[1] != format {
		return meta{}, errFormat
	}
	if len(b) < fixed {
		return meta{}, fmt.Errorf("metadata of %d bytes, expected at least %d", len(b), fixed)
	}
	m := meta{
		Phase: knownPhase(b[2]),
		Version: version{
			Epoch: binary.BigEndian.Uint64(b[3:]),
			Seq:   binary.BigEndian.Uint64(b[11:]),
		},
	}
	n := int(b[19])
	b = b[fixed:]
	if n > maxMetaKeys || len(b) < n*len(keyID{}) {
		return meta{}, fmt.Errorf("metadata with %d keys in %d bytes", n, len(b))
	}
	for i := range n {
		m.Keys = append(m.Keys, keyID(b[i*len(keyID{}):]))
	}
	return m, nil
}
