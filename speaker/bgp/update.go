package bgp

import (
	"encoding/binary"
	"net/netip"
)

// Path attributes that hold prefixes (RFC 4760).
const (
	attrMPReach   = 14
	attrMPUnreach = 15

	flagExtendedLength = 0x10
)

// Update walks the prefixes of an UPDATE message's body, of IPv4 and IPv6
// unicast. It is false if the message is malformed; the prefixes before that were
// given all the same.
func Update(body []byte, announced, withdrawn func(netip.Prefix)) bool {
	size, rest, ok := take16(body)
	if !ok || !prefixes(rest[:size], IPv4, withdrawn) {
		return false
	}
	size, rest, ok = take16(rest[size:])
	if !ok {
		return false
	}
	attributes, nlri := rest[:size], rest[size:]
	for len(attributes) > 0 {
		if len(attributes) < 3 {
			return false
		}
		flags, code := attributes[0], attributes[1]
		size, value := int(attributes[2]), attributes[3:]
		if flags&flagExtendedLength != 0 {
			if len(attributes) < 4 {
				return false
			}
			size, value = int(binary.BigEndian.Uint16(attributes[2:])), attributes[4:]
		}
		if size > len(value) || !attribute(code, value[:size], announced, withdrawn) {
			return false
		}
		attributes = value[size:]
	}
	return prefixes(nlri, IPv4, announced)
}

// attribute walks the prefixes of one path attribute.
func attribute(code byte, value []byte, announced, withdrawn func(netip.Prefix)) bool {
	if code != attrMPReach && code != attrMPUnreach {
		return true
	}
	if len(value) < 3 {
		return false
	}
	family, safi, value := binary.BigEndian.Uint16(value), value[2], value[3:]
	each := withdrawn
	if code == attrMPReach {
		// The next hop's length, the next hop and a reserved octet.
		if len(value) < 1 || len(value) < 2+int(value[0]) {
			return false
		}
		each, value = announced, value[2+int(value[0]):]
	}
	if safi != unicast || family != uint16(IPv4) && family != uint16(IPv6) {
		return true
	}
	return prefixes(value, Family(family), each)
}

// prefixes walks NLRI (RFC 4271, section 4.3).
func prefixes(b []byte, f Family, each func(netip.Prefix)) bool {
	for len(b) > 0 {
		bits, size := int(b[0]), (int(b[0])+7)/8
		b = b[1:]
		if size > len(b) || f == IPv4 && bits > 32 || bits > 128 {
			return false
		}
		var raw [16]byte
		copy(raw[:], b[:size])
		addr := netip.AddrFrom16(raw)
		if f == IPv4 {
			addr = netip.AddrFrom4([4]byte(raw[:4]))
		}
		each(netip.PrefixFrom(addr, bits).Masked())
		b = b[size:]
	}
	return true
}

// take16 reads a length of two octets and checks that so much follows.
func take16(b []byte) (size int, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	size, rest = int(binary.BigEndian.Uint16(b)), b[2:]
	return size, rest, size <= len(rest)
}

// AppendEndOfRIB appends the UPDATE message that ends the first sending of a
// family (RFC 4724, section 2).
func AppendEndOfRIB(b []byte, f Family) []byte {
	if f == IPv4 {
		b = AppendHeader(b, UpdateMessage, 4)
		return append(b, 0, 0, 0, 0)
	}
	b = AppendHeader(b, UpdateMessage, 10)
	return append(b, 0, 0, 0, 6, 0x80, attrMPUnreach, 3, 0, byte(f), unicast)
}
