package bgp

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// asTrans stands for AS numbers that need four octets (RFC 6793).
const asTrans = 23456

// Optional parameter and capability codes.
const (
	capabilities   = 2   // RFC 5492
	extendedParams = 255 // RFC 9072

	capMultiprotocol   = 1  // RFC 4760
	capRefresh         = 2  // RFC 2918
	capExtendedNextHop = 5  // RFC 8950
	capExtendedMessage = 6  // RFC 8654
	capGracefulRestart = 64 // RFC 4724
	capFourOctetAS     = 65 // RFC 6793
)

// Open is what we care for in an OPEN message.
type Open struct {
	ASN      uint32
	HoldTime time.Duration
	ID       netip.Addr
	// Families that the peer exchanges. A peer that says nothing of families
	// means IPv4.
	IPv4, IPv6 bool
	// IPv4OverIPv6 is true if the peer takes IPv4 prefixes with IPv6 next hops
	// (RFC 8950).
	IPv4OverIPv6 bool
	Refresh      bool
	Extended     bool // RFC 8654
	FourOctetAS  bool
	// GracefulRestart is true if the peer knows it, Restarting if it says that
	// it just restarted (RFC 4724).
	GracefulRestart, Restarting bool
	RestartTime                 time.Duration
}

// ParseOpen reads the body of an OPEN message. The refusal is what RFC 4271,
// section 6.2 answers with; whose peer it must be, the caller knows.
func ParseOpen(body []byte) (Open, *Notification) {
	if len(body) < openMinLen-HeaderLen {
		return Open{}, &Notification{Code: HeaderError, Subcode: BadMessageLength}
	}
	if body[0] != 4 {
		return Open{}, &Notification{Code: OpenError, Subcode: UnsupportedVersion, Data: []byte{0, 4}}
	}
	hold := binary.BigEndian.Uint16(body[3:])
	o := Open{
		ASN:      uint32(binary.BigEndian.Uint16(body[1:])),
		HoldTime: time.Duration(hold) * time.Second,
		ID:       netip.AddrFrom4([4]byte(body[5:9])),
	}
	if hold == 1 || hold == 2 {
		return Open{}, &Notification{Code: OpenError, Subcode: UnacceptableHold}
	}
	if o.ID.IsUnspecified() {
		return Open{}, &Notification{Code: OpenError, Subcode: BadIdentifier}
	}
	multiprotocol, refusal := o.parseParameters(body[9:])
	if refusal != nil {
		return Open{}, refusal
	}
	if !multiprotocol {
		o.IPv4 = true
	}
	// RFC 7607: nobody has AS 0.
	if o.ASN == 0 {
		return Open{}, &Notification{Code: OpenError, Subcode: BadPeerAS}
	}
	return o, nil
}

// parseParameters reads the optional parameters, beginning with their length,
// and tells whether there was a word of families.
func (o *Open) parseParameters(b []byte) (multiprotocol bool, refusal *Notification) {
	malformed := &Notification{Code: OpenError}
	total, b := int(b[0]), b[1:]
	width := 1 // of a parameter's length
	if total == extendedParams && len(b) > 0 && b[0] == extendedParams {
		if len(b) < 3 {
			return false, malformed
		}
		total, b, width = int(binary.BigEndian.Uint16(b[1:])), b[3:], 2
	}
	if total != len(b) {
		return false, malformed
	}
	for len(b) > 0 {
		if len(b) < 1+width {
			return false, malformed
		}
		code, size := b[0], int(b[1])
		if width == 2 {
			size = int(binary.BigEndian.Uint16(b[1:]))
		}
		b = b[1+width:]
		if size > len(b) {
			return false, malformed
		}
		if code != capabilities {
			return false, &Notification{Code: OpenError, Subcode: UnsupportedOption}
		}
		mp, ok := o.parseCapabilities(b[:size])
		if !ok {
			return false, malformed
		}
		multiprotocol = multiprotocol || mp
		b = b[size:]
	}
	return multiprotocol, nil
}

// parseCapabilities reads one parameter of capabilities. What is too short to be
// understood counts as not said.
func (o *Open) parseCapabilities(b []byte) (multiprotocol, ok bool) {
	for len(b) > 0 {
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return multiprotocol, false
		}
		code, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch {
		case code == capMultiprotocol && len(value) == 4:
			multiprotocol = true
			if value[3] == unicast && value[0] == 0 {
				o.IPv4 = o.IPv4 || Family(value[1]) == IPv4
				o.IPv6 = o.IPv6 || Family(value[1]) == IPv6
			}
		case code == capRefresh:
			o.Refresh = true
		case code == capExtendedNextHop:
			for ; len(value) >= 6; value = value[6:] {
				if [6]byte(value) == [6]byte{0, byte(IPv4), 0, unicast, 0, byte(IPv6)} {
					o.IPv4OverIPv6 = true
				}
			}
		case code == capExtendedMessage:
			o.Extended = true
		case code == capGracefulRestart && len(value) >= 2:
			flags := binary.BigEndian.Uint16(value)
			o.GracefulRestart, o.Restarting = true, flags&0x8000 != 0
			o.RestartTime = time.Duration(flags&0x0fff) * time.Second
		case code == capFourOctetAS && len(value) == 4:
			o.FourOctetAS, o.ASN = true, binary.BigEndian.Uint32(value)
		}
	}
	return multiprotocol, true
}

// Append appends an OPEN message that says exactly what is in o.
func (o *Open) Append(b []byte) []byte {
	var caps []byte
	add := func(code byte, value ...byte) {
		caps = append(append(caps, code, byte(len(value))), value...)
	}
	if o.IPv4 {
		add(capMultiprotocol, 0, byte(IPv4), 0, unicast)
	}
	if o.IPv6 {
		add(capMultiprotocol, 0, byte(IPv6), 0, unicast)
	}
	if o.Refresh {
		add(capRefresh)
	}
	if o.IPv4OverIPv6 {
		add(capExtendedNextHop, 0, byte(IPv4), 0, unicast, 0, byte(IPv6))
	}
	if o.Extended {
		add(capExtendedMessage)
	}
	if o.GracefulRestart {
		flags := uint16(o.RestartTime/time.Second) & 0x0fff
		forwarding := byte(0)
		if o.Restarting {
			// Kube-proxy and the CNI forward all the while.
			flags, forwarding = flags|0x8000, 0x80
		}
		value := binary.BigEndian.AppendUint16(nil, flags)
		for _, f := range []struct {
			on bool
			f  Family
		}{{o.IPv4, IPv4}, {o.IPv6, IPv6}} {
			if f.on {
				value = append(value, 0, byte(f.f), unicast, forwarding)
			}
		}
		add(capGracefulRestart, value...)
	}
	as := uint16(asTrans)
	if o.ASN <= 0xffff {
		as = uint16(o.ASN)
	}
	if o.FourOctetAS {
		add(capFourOctetAS, binary.BigEndian.AppendUint32(nil, o.ASN)...)
	}
	b = AppendHeader(b, OpenMessage, openMinLen-HeaderLen+2+len(caps))
	b = append(b, 4)
	b = binary.BigEndian.AppendUint16(b, as)
	b = binary.BigEndian.AppendUint16(b, uint16(o.HoldTime/time.Second))
	id := o.ID.As4()
	b = append(b, id[:]...)
	return append(append(b, byte(2+len(caps)), capabilities, byte(len(caps))), caps...)
}

// MissingFamilies answers an OPEN that offers none of the families that a session
// is for. Its data are the capabilities that were missed (RFC 5492, section 5).
func MissingFamilies(v4, v6 bool) *Notification {
	n := &Notification{Code: OpenError, Subcode: UnsupportedCap}
	for _, f := range []struct {
		on bool
		f  Family
	}{{v4, IPv4}, {v6, IPv6}} {
		if f.on {
			n.Data = append(n.Data, capMultiprotocol, 4, 0, byte(f.f), 0, unicast)
		}
	}
	return n
}
