package bgp

import (
	"encoding/binary"
	"fmt"
)

// Sizes of messages (RFC 4271, section 4.1; RFC 8654, section 3).
const (
	HeaderLen      = 19
	MaxLen         = 4096
	MaxExtendedLen = 65535
	openMinLen     = 29
	updateMinLen   = 23
)

// MessageType is the type octet of a message.
type MessageType uint8

// The types (RFC 4271, section 4.1; RFC 2918).
const (
	OpenMessage         MessageType = 1
	UpdateMessage       MessageType = 2
	NotificationMessage MessageType = 3
	KeepaliveMessage    MessageType = 4
	RefreshMessage      MessageType = 5
)

func (t MessageType) String() string {
	switch t {
	case OpenMessage:
		return "OPEN"
	case UpdateMessage:
		return "UPDATE"
	case NotificationMessage:
		return "NOTIFICATION"
	case KeepaliveMessage:
		return "KEEPALIVE"
	case RefreshMessage:
		return "ROUTE-REFRESH"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// ParseHeader reads a header of HeaderLen octets and returns the length of the
// whole message and its type. Longer messages than MaxLen are accepted if
// extended is true. The refusal is what RFC 4271, section 6.1 answers with.
func ParseHeader(b []byte, extended bool) (length int, t MessageType, refusal *Notification) {
	for _, octet := range b[:16] {
		if octet != 0xff {
			return 0, 0, &Notification{Code: HeaderError, Subcode: NotSynchronized}
		}
	}
	length, t = int(binary.BigEndian.Uint16(b[16:])), MessageType(b[18])
	shortest, longest := HeaderLen, MaxLen
	switch t {
	case OpenMessage:
		shortest = openMinLen
	case UpdateMessage:
		shortest = updateMinLen
	case NotificationMessage:
		shortest = HeaderLen + 2
	case KeepaliveMessage:
		longest = HeaderLen
	case RefreshMessage:
		shortest = HeaderLen + 4
	default:
		return 0, 0, &Notification{Code: HeaderError, Subcode: BadMessageType, Data: b[18:19]}
	}
	if extended && t != OpenMessage && t != KeepaliveMessage {
		longest = MaxExtendedLen
	}
	if length < shortest || length > longest {
		return 0, 0, &Notification{Code: HeaderError, Subcode: BadMessageLength, Data: b[16:18]}
	}
	return length, t, nil
}

// AppendHeader appends the header of a message with a body of n octets.
func AppendHeader(b []byte, t MessageType, n int) []byte {
	for range 16 {
		b = append(b, 0xff)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(HeaderLen+n))
	return append(b, byte(t))
}

// AppendKeepalive appends a KEEPALIVE message.
func AppendKeepalive(b []byte) []byte { return AppendHeader(b, KeepaliveMessage, 0) }

// AppendRefresh appends a ROUTE-REFRESH message (RFC 2918).
func AppendRefresh(b []byte, f Family) []byte {
	b = AppendHeader(b, RefreshMessage, 4)
	return append(b, 0, byte(f), 0, unicast)
}

// ParseRefresh reads the body of a ROUTE-REFRESH. It is false for what we need
// not answer: other families, and the markers of RFC 7313, which we never
// offered.
func ParseRefresh(body []byte) (Family, bool) {
	if len(body) != 4 || body[0] != 0 || body[2] != 0 || body[3] != unicast {
		return 0, false
	}
	f := Family(body[1])
	return f, f == IPv4 || f == IPv6
}

// Family is an address family, by its number (AFI), always unicast.
type Family uint8

// The families (RFC 4760).
const (
	IPv4 Family = 1
	IPv6 Family = 2

	unicast = 1
)

func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}
