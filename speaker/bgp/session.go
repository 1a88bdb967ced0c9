package bgp

import (
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/speaker/desired"
)

// Timers where a peer has none set. Hold and keepalive are the values that RFC
// 4271, section 10 suggests.
const (
	DefaultHold    = 90 * time.Second
	DefaultConnect = 5 * time.Second
)

// ASN is our AS number towards a peer.
func ASN(p *config.Peer) uint32 {
	if p.LocalASN != 0 {
		return p.LocalASN
	}
	return p.MyASN
}

// External tells whether the peer is of another AS, as far as its configuration
// says.
func External(p *config.Peer) bool {
	switch p.Dynamic {
	case config.InternalASN:
		return false
	case config.ExternalASN:
		return true
	}
	return p.PeerASN != ASN(p)
}

// AcceptsASN tells whether a peer may have an AS number.
func AcceptsASN(p *config.Peer, asn uint32) bool {
	switch p.Dynamic {
	case config.InternalASN:
		return asn == ASN(p)
	case config.ExternalASN:
		return asn != ASN(p)
	}
	return asn == p.PeerASN
}

// Timers are the hold, keepalive and connect times to use.
func Timers(p *config.Peer) (hold, keepalive, connect time.Duration) {
	hold, connect = DefaultHold, DefaultConnect
	if p.HoldTime != nil {
		hold = *p.HoldTime
	}
	keepalive = hold / 3
	if p.KeepaliveTime != nil {
		keepalive = *p.KeepaliveTime
	}
	if p.ConnectTime != nil {
		connect = *p.ConnectTime
	}
	return hold, keepalive, connect
}

// Negotiated are the hold and keepalive times of a session (RFC 4271, section
// 4.2 and 10).
func Negotiated(p *config.Peer, peerHold time.Duration) (hold, keepalive time.Duration) {
	mine, keepalive, _ := Timers(p)
	if peerHold < mine {
		return peerHold, peerHold / 3
	}
	return mine, keepalive
}

// HopLimits are the TTL to send with and the least to accept; 0 leaves either to
// the kernel. A peer of another AS is on the link unless multihop is allowed
// (RFC 4271, section 5.1.3); ttlSecurity demands 255 (RFC 5082).
func HopLimits(p *config.Peer) (send, least int) {
	switch {
	case p.TTLSecurity:
		return 255, 255
	case External(p) && !p.EBGPMultiHop:
		return 1, 0
	}
	return 0, 0
}

// Effect is what a difference in a session's configuration does to it.
type Effect uint8

// The effects, the stronger the greater.
const (
	// Nothing: the field does not concern the session.
	Nothing Effect = iota
	// Live: it takes effect and the session stays up.
	Live
	// Reset: the session ends and begins anew, it alone.
	Reset
)

// fields is the one table of what each field does; docs/bgp.md repeats it. A new
// field of a session must have a row.
var fields = []struct {
	name   string
	effect Effect
	differ func(a, b *desired.Session) bool
}{
	{"myASN", Reset, func(a, b *desired.Session) bool { return a.MyASN != b.MyASN }},
	{"peerASN", Reset, func(a, b *desired.Session) bool { return a.PeerASN != b.PeerASN }},
	{"dynamicASN", Reset, func(a, b *desired.Session) bool { return a.Dynamic != b.Dynamic }},
	{"localASN", Reset, func(a, b *desired.Session) bool { return a.LocalASN != b.LocalASN }},
	{"peerAddress", Reset, func(a, b *desired.Session) bool { return a.Address != b.Address }},
	{"interface", Reset, func(a, b *desired.Session) bool { return a.Interface != b.Interface }},
	{"peerPrefix", Reset, func(a, b *desired.Session) bool { return a.Prefix != b.Prefix }},
	{"passiveMode", Reset, func(a, b *desired.Session) bool { return a.Passive != b.Passive }},
	{"sourceAddress", Reset, func(a, b *desired.Session) bool { return a.Source != b.Source }},
	{"peerPort", Reset, func(a, b *desired.Session) bool { return a.Port != b.Port }},
	{"vrf", Reset, func(a, b *desired.Session) bool { return a.VRF != b.VRF }},
	{"routerID", Reset, func(a, b *desired.Session) bool { return a.ID != b.ID }},
	{"holdTime", Reset, func(a, b *desired.Session) bool { return !same(a.HoldTime, b.HoldTime) }},
	{"keepaliveTime", Reset, func(a, b *desired.Session) bool { return !same(a.KeepaliveTime, b.KeepaliveTime) }},
	{"connectTime", Live, func(a, b *desired.Session) bool { return !same(a.ConnectTime, b.ConnectTime) }},
	{"enableGracefulRestart", Reset, func(a, b *desired.Session) bool { return a.GracefulRestart != b.GracefulRestart }},
	{"dualStackAddressFamily, disableMP", Reset, func(a, b *desired.Session) bool { return a.IPv4 != b.IPv4 || a.IPv6 != b.IPv6 }},
	{"ebgpMultiHop", Live, func(a, b *desired.Session) bool { return a.EBGPMultiHop != b.EBGPMultiHop }},
	{"ttlSecurity", Live, func(a, b *desired.Session) bool { return a.TTLSecurity != b.TTLSecurity }},
	{"password, from none or to none", Reset, func(a, b *desired.Session) bool { return (a.Key == "") != (b.Key == "") }},
	{"password", Live, func(a, b *desired.Session) bool { return a.Key != b.Key }},
	{"bfdProfile, from none or to none", Live, func(a, b *desired.Session) bool { return (a.BFD == nil) != (b.BFD == nil) }},
}

func same(a, b *time.Duration) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

// Compare says what turning one configuration of a session into another does to
// it, and which fields, in the words of the API, do so.
func Compare(a, b *desired.Session) (effect Effect, because []string) {
	for _, f := range fields {
		if !f.differ(a, b) {
			continue
		}
		if f.effect > effect {
			effect, because = f.effect, nil
		}
		if f.effect == effect {
			because = append(because, f.name)
		}
	}
	return effect, because
}

// Change is the way from one set of sessions to another. Sessions are named by
// their peer.
type Change struct {
	Add, Reset, Live []desired.Session
	Drop             []string
	// Because are the fields that demand a reset, by peer.
	Because map[string][]string
}

// Diff is the way from old to next; names are in the order of next.
func Diff(old map[string]desired.Session, next []desired.Session) Change {
	var c Change
	wanted := make(map[string]struct{}, len(next))
	for _, s := range next {
		wanted[s.Name] = struct{}{}
		was, ok := old[s.Name]
		if !ok {
			c.Add = append(c.Add, s)
			continue
		}
		switch effect, because := Compare(&was, &s); effect {
		case Reset:
			c.Reset = append(c.Reset, s)
			if c.Because == nil {
				c.Because = make(map[string][]string)
			}
			c.Because[s.Name] = because
		case Live:
			c.Live = append(c.Live, s)
		}
	}
	for name := range old {
		if _, ok := wanted[name]; !ok {
			c.Drop = append(c.Drop, name)
		}
	}
	return c
}
