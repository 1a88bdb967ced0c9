package l2

import (
	"encoding/binary"
	"net"
	"net/netip"

	"github.com/mdlayher/arp"
)

// Offsets within an Ethernet frame that carries ARP for IPv4 (RFC 826).
const (
	ethDestination = 0
	ethSource      = 6
	ethType        = 12
	ethHeader      = 14

	arpHardware   = ethHeader
	arpProtocol   = ethHeader + 2
	arpLengths    = ethHeader + 4
	arpOperation  = ethHeader + 6
	arpSenderMAC  = ethHeader + 8
	arpSenderAddr = ethHeader + 14
	arpTargetMAC  = ethHeader + 18
	arpTargetAddr = ethHeader + 24
	arpFrame      = ethHeader + 28

	etherTypeARP  = 0x0806
	etherTypeIPv6 = 0x86dd
)

// A verdict is what became of a frame.
type verdict uint8

const (
	// ignored: not for us, or nothing that wants an answer.
	ignored verdict = iota
	// malformed: truncated, or it contradicts itself.
	malformed
	// answered: the reply is to be sent.
	answered
	// foreign: another station announces an address of ours.
	foreign
)

// arpTemplate is a frame with an ARP reply, complete but for the addresses of
// one answer.
type arpTemplate [arpFrame]byte

func newARPTemplate(mac net.HardwareAddr) arpTemplate {
	var t arpTemplate
	packet, err := arp.NewPacket(arp.OperationReply, mac, netip.IPv4Unspecified(), mac, netip.IPv4Unspecified())
	if err != nil {
		panic("l2: " + err.Error()) // a port's address has six bytes
	}
	body, err := packet.MarshalBinary()
	if err != nil {
		panic("l2: " + err.Error())
	}
	copy(t[ethSource:], mac)
	binary.BigEndian.PutUint16(t[ethType:], etherTypeARP)
	copy(t[ethHeader:], body)
	return t
}

// appendARP appends a frame that p sends: an operation from the announced
// address ours towards a station.
func appendARP(buf []byte, p *port, op arp.Operation, ours [4]byte, to, target hwAddr, targetAddr [4]byte) []byte {
	start := len(buf)
	buf = append(buf, p.reply[:]...)
	frame := buf[start:]
	copy(frame[ethDestination:], to[:])
	binary.BigEndian.PutUint16(frame[arpOperation:], uint16(op))
	copy(frame[arpSenderAddr:], ours[:])
	copy(frame[arpTargetMAC:], target[:])
	copy(frame[arpTargetAddr:], targetAddr[:])
	return buf
}

// appendGratuitousARP appends one of the two frames that tell a segment of a
// new owner: a request or a reply, with sender and target both the address.
// Some stations update their cache on one form only.
func appendGratuitousARP(buf []byte, p *port, op arp.Operation, addr netip.Addr) []byte {
	ours := addr.As4()
	return appendARP(buf, p, op, ours, broadcast, broadcast, ours)
}

// respondARP decides on one frame that arrived on p, one of the node's ports ps,
// and appends the answer to buf. The entry is the address that the frame is about, nil if none of ours.
func respondARP(frame []byte, t *table, ps *ports, p *port, buf []byte) ([]byte, *entry, verdict) {
	if len(frame) < arpFrame {
		return buf, nil, malformed
	}
	to, from := hwAddr(frame[ethDestination:]), hwAddr(frame[ethSource:])
	if to != broadcast && to != p.mac || ps.own[from] {
		return buf, nil, ignored
	}
	if binary.BigEndian.Uint16(frame[ethType:]) != etherTypeARP ||
		binary.BigEndian.Uint16(frame[arpHardware:]) != 1 || // Ethernet
		binary.BigEndian.Uint16(frame[arpProtocol:]) != 0x0800 || // IPv4
		binary.BigEndian.Uint16(frame[arpLengths:]) != 0x0604 {
		return buf, nil, malformed
	}
	op := arp.Operation(binary.BigEndian.Uint16(frame[arpOperation:]))
	sender, senderAddr := hwAddr(frame[arpSenderMAC:]), [4]byte(frame[arpSenderAddr:])
	targetAddr := [4]byte(frame[arpTargetAddr:])
	if op != arp.OperationRequest && op != arp.OperationReply {
		return buf, nil, ignored
	}
	if !sender.usable() {
		return buf, nil, malformed
	}

	e := t.get(netip.AddrFrom4(targetAddr))
	if e == nil || !e.allows(p.name) {
		return buf, nil, ignored
	}
	// An announcement names one address twice (RFC 5227 section 1.1): nobody
	// asks, and if it names ours then somebody else claims it.
	if senderAddr == targetAddr {
		if ps.own[sender] {
			return buf, nil, ignored
		}
		return buf, e, foreign
	}
	if op != arp.OperationRequest {
		return buf, nil, ignored
	}
	// A probe has the sender 0.0.0.0 (RFC 5227 section 2.1.1); the same reply
	// tells its sender that the address is taken.
	return appendARP(buf, p, arp.OperationReply, targetAddr, sender, sender, senderAddr), e, answered
}
