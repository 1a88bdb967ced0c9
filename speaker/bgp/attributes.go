package bgp

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/speaker/desired"
)

const (
	// bandwidthPerEndpoint is what the link-bandwidth community says for each
	// endpoint of a node, in octets a second: 1 Gbit/s. Routers compare the
	// figures of a prefix with one another only.
	bandwidthPerEndpoint = 125e6
	// gracefulShutdown is 65535:0 (RFC 8326).
	gracefulShutdown = 65535 << 16
)

// Wire are the attributes of a prefix as one session sends them, in the order
// and the numbers of the wire. What the library sets itself is not in it: ORIGIN,
// the next hop and the AS_PATH's first AS.
type Wire struct {
	// LocalPref is nil towards peers of other ASes (RFC 4271, section 5.1.5).
	LocalPref *uint32
	MED       *uint32
	// Prepend are the ASes in the path besides the usual one.
	Prepend  []uint32
	Standard []uint32
	Large    [][3]uint32
	Extended [][8]byte
}

// OnTheWire says how a session of AS asn sends attributes, to a peer of another
// AS if external is true. While leaving, it asks the peer to prefer other ways
// (RFC 8326, section 4).
func OnTheWire(a *desired.Attributes, asn uint32, external, leaving bool) Wire {
	w := Wire{MED: a.MED}
	if external {
		// In a path of our own AS a peer of that AS would see a loop.
		w.Prepend = slices.Repeat([]uint32{asn}, int(a.Prepend))
	} else if a.LocalPref != 0 {
		w.LocalPref = &a.LocalPref
	}
	for _, c := range a.Communities {
		switch c.Kind {
		case config.StandardCommunity:
			w.Standard = append(w.Standard, c.Fields[0]<<16|c.Fields[1]&0xffff)
		case config.LargeCommunity:
			w.Large = append(w.Large, c.Fields)
		case config.ExtendedCommunity:
			var raw [8]byte
			binary.BigEndian.PutUint32(raw[:], c.Fields[0])
			binary.BigEndian.PutUint32(raw[4:], c.Fields[1])
			w.Extended = append(w.Extended, raw)
		}
	}
	if a.Weight > 0 {
		w.Extended = append(w.Extended, linkBandwidth(asn, a.Weight))
	}
	if leaving {
		if !slices.Contains(w.Standard, gracefulShutdown) {
			w.Standard = append(w.Standard, gracefulShutdown)
		}
		if !external {
			w.LocalPref = new(uint32)
		}
	}
	return w
}

// linkBandwidth is the community of that name: its type, a two-octet AS, and a
// bandwidth as an IEEE 754 number.
func linkBandwidth(asn uint32, endpoints int) (raw [8]byte) {
	as := uint16(asTrans)
	if asn <= 0xffff {
		as = uint16(asn)
	}
	raw[0], raw[1] = 0x40, 0x04
	binary.BigEndian.PutUint16(raw[2:], as)
	binary.BigEndian.PutUint32(raw[4:], math.Float32bits(float32(endpoints)*bandwidthPerEndpoint))
	return raw
}
