package l2

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/ndp"
)

// Offsets within an Ethernet frame that carries a Neighbor Solicitation or
// Advertisement (RFC 4861 sections 4.3 and 4.4) without extension headers.
const (
	ip6Length   = ethHeader + 4
	ip6Next     = ethHeader + 6
	ip6HopLimit = ethHeader + 7
	ip6Source   = ethHeader + 8
	ip6Dest     = ethHeader + 24

	icmpType     = ethHeader + 40
	icmpCode     = icmpType + 1
	icmpChecksum = icmpType + 2
	ndpFlags     = icmpType + 4
	ndpTarget    = icmpType + 8
	ndpOptions   = icmpType + 24
	ndpFrame     = ndpOptions + 8

	protocolICMPv6        = 58
	neighborSolicitation  = 135
	neighborAdvertisement = 136

	flagSolicited = 0x40
	flagOverride  = 0x20

	optionSourceLinkLayer = 1
)

var (
	allNodes    = netip.MustParseAddr("ff02::1")
	allNodesMAC = hwAddr{0x33, 0x33, 0, 0, 0, 1}
)

// ndpTemplate is a frame with a Neighbor Advertisement, complete but for the
// addresses, the flags and the checksum of one answer.
type ndpTemplate [ndpFrame]byte

func newNDPTemplate(mac net.HardwareAddr) ndpTemplate {
	var t ndpTemplate
	body, err := ndp.MarshalMessage(&ndp.NeighborAdvertisement{
		// RFC 4861 section 7.2.4: "If the Target Address is either an anycast
		// address or a unicast address for which the node is providing proxy
		// service, or the Target Link-Layer Address option is not included,
		// the Override flag SHOULD be set to zero. Otherwise, the Override
		// flag SHOULD be set to one." The owner of an address is no proxy.
		// We are no router, so the Router flag stays zero.
		Override:      true,
		TargetAddress: netip.IPv6Unspecified(),
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
	})
	if err != nil {
		panic("l2: " + err.Error()) // a port's address has six bytes
	}
	copy(t[ethSource:], mac)
	binary.BigEndian.PutUint16(t[ethType:], etherTypeIPv6)
	t[ethHeader] = 6 << 4
	binary.BigEndian.PutUint16(t[ip6Length:], uint16(len(body)))
	t[ip6Next] = protocolICMPv6
	t[ip6HopLimit] = 255 // RFC 4861 section 4.4
	copy(t[icmpType:], body)
	return t
}

// appendNA appends an advertisement of ours that p sends to one station or to
// all nodes.
func appendNA(buf []byte, p *port, ours [16]byte, solicited bool, to hwAddr, dest [16]byte) []byte {
	start := len(buf)
	buf = append(buf, p.advertisement[:]...)
	frame := buf[start:]
	copy(frame[ethDestination:], to[:])
	// RFC 4861 section 4.4: the source is "An address assigned to the interface
	// from which the advertisement is sent." The announced address itself is,
	// as with a host that holds it; tools that match answers to questions drop
	// those that come from an address of another scope.
	copy(frame[ip6Source:], ours[:])
	copy(frame[ip6Dest:], dest[:])
	if solicited {
		frame[ndpFlags] |= flagSolicited
	}
	copy(frame[ndpTarget:], ours[:])
	binary.BigEndian.PutUint16(frame[icmpChecksum:], 0)
	binary.BigEndian.PutUint16(frame[icmpChecksum:], icmp6Checksum(frame))
	return buf
}

// appendUnsolicitedNA appends the frame that tells a segment of a new owner
// (RFC 4861 section 7.2.6): to all nodes, Solicited zero, Override one.
func appendUnsolicitedNA(buf []byte, p *port, addr netip.Addr) []byte {
	return appendNA(buf, p, addr.As16(), false, allNodesMAC, allNodes.As16())
}

// respondNDP decides on one frame that arrived on p, one of the node's ports ps,
// and appends the answer to buf. The entry is the address that the frame is about, nil if none of ours.
func respondNDP(frame []byte, t *table, ps *ports, p *port, buf []byte) ([]byte, *entry, verdict) {
	if len(frame) < ndpOptions {
		return buf, nil, malformed
	}
	to, from := hwAddr(frame[ethDestination:]), hwAddr(frame[ethSource:])
	if to != p.mac && !to.group() || ps.own[from] {
		return buf, nil, ignored
	}
	kind := frame[icmpType]
	if frame[ip6Next] != protocolICMPv6 || kind != neighborSolicitation && kind != neighborAdvertisement {
		return buf, nil, ignored
	}
	target := netip.AddrFrom16([16]byte(frame[ndpTarget:]))
	e := t.get(target)
	if e == nil || !e.allows(p.name) {
		return buf, nil, ignored
	}
	frame, ok := validNDP(frame)
	if !ok || !from.usable() {
		return buf, nil, malformed
	}
	if kind == neighborAdvertisement {
		return buf, e, foreign
	}
	sender, ok := sourceLinkLayer(frame)
	if !ok {
		return buf, nil, malformed
	}

	source := netip.AddrFrom16([16]byte(frame[ip6Source:]))
	dest := netip.AddrFrom16([16]byte(frame[ip6Dest:]))
	ours := [16]byte(frame[ndpTarget:])
	if source.IsUnspecified() {
		// RFC 4861 section 7.1.1: "If the IP source address is the
		// unspecified address, the IP destination address is a
		// solicited-node multicast address", and there is no source option.
		if dest != solicitedNode(groupOf(target)) || sender != (hwAddr{}) {
			return buf, nil, malformed
		}
		// RFC 4861 section 7.2.4: "If the source of the solicitation is the
		// unspecified address, the node MUST set the Solicited flag to zero
		// and multicast the advertisement to the all-nodes address."
		return appendNA(buf, p, ours, false, allNodesMAC, allNodes.As16()), e, answered
	}
	if source.IsMulticast() {
		return buf, nil, malformed
	}
	if !dest.IsMulticast() && dest != target {
		return buf, nil, ignored
	}
	// A unicast probe may leave the option out (RFC 4861 section 4.3); the
	// frame's own source is then where the answer goes.
	if sender == (hwAddr{}) {
		sender = from
	}
	return appendNA(buf, p, ours, true, sender, source.As16()), e, answered
}

// validNDP makes the checks that RFC 4861 sections 7.1.1 and 7.1.2 ask of
// solicitations and advertisements alike, and returns the frame without the
// padding behind the packet.
func validNDP(frame []byte) ([]byte, bool) {
	length := int(binary.BigEndian.Uint16(frame[ip6Length:]))
	if frame[ethHeader]>>4 != 6 || length < ndpOptions-icmpType || icmpType+length > len(frame) {
		return nil, false
	}
	frame = frame[:icmpType+length]
	return frame, frame[ip6HopLimit] == 255 && frame[icmpCode] == 0 &&
		frame[ndpTarget] != 0xff && // "Target Address is not a multicast address."
		icmp6Checksum(frame) == 0
}

// sourceLinkLayer returns the source link-layer address option of a
// solicitation, the zero value if it has none. It is false when the options
// are malformed: RFC 4861 section 7.1.1, "All included options have a length
// that is greater than zero."
func sourceLinkLayer(frame []byte) (hwAddr, bool) {
	var sender hwAddr
	for options := frame[ndpOptions:]; len(options) > 0; {
		if len(options) < 2 {
			return hwAddr{}, false
		}
		length := 8 * int(options[1])
		if length == 0 || length > len(options) {
			return hwAddr{}, false
		}
		if options[0] == optionSourceLinkLayer {
			if length != 8 || !hwAddr(options[2:]).usable() {
				return hwAddr{}, false
			}
			sender = hwAddr(options[2:])
		}
		options = options[length:]
	}
	return sender, true
}

// icmp6Checksum sums the ICMPv6 message of a frame and its pseudo-header
// (RFC 8200 section 8.1). It is zero for a frame whose checksum is right.
func icmp6Checksum(frame []byte) uint16 {
	sum := uint64(len(frame)-icmpType) + protocolICMPv6
	b := frame[ip6Source:]
	for ; len(b) >= 4; b = b[4:] {
		sum += uint64(binary.BigEndian.Uint32(b))
	}
	var rest [4]byte // what is left, padded with zeros
	copy(rest[:], b)
	sum += uint64(binary.BigEndian.Uint32(rest[:]))
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
