package desired

import (
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/observed"
)

// BGPRoutes is the whole wanted state of the BGP room, sessions aside: what each
// peer is told, by the name of the BGPPeer. A peer that is not in it is told
// nothing.
type BGPRoutes map[string]Routes

// Routes are the prefixes that one peer is told, each with its attributes.
// Prefixes are masked and plain: IPv4 unmapped, without a zone. They are of the
// families that the peer's session carries (Session.IPv4, Session.IPv6).
type Routes map[netip.Prefix]*Attributes

// Attributes are what goes on the wire with a prefix. They are shared by many
// routes and never changed once published.
type Attributes struct {
	// LocalPref is the LOCAL_PREF, 0 for none; it is never sent to eBGP peers
	// (RFC 4271, section 5.1.5).
	LocalPref uint32
	// MED is the MULTI_EXIT_DISC, nil for none.
	MED *uint32
	// Prepend is how many more times than usual the local AS is in the path.
	Prepend uint8
	// Communities of all kinds, sorted, each once.
	Communities []config.Community
	// Weight is the number of endpoints on this node that the link-bandwidth
	// community speaks of, 0 for no such community.
	Weight int
}

// Equal tells whether both look the same on the wire.
func (a *Attributes) Equal(b *Attributes) bool {
	return a == b || a.LocalPref == b.LocalPref && a.Prepend == b.Prepend && a.Weight == b.Weight &&
		(a.MED == nil) == (b.MED == nil) && (a.MED == nil || *a.MED == *b.MED) &&
		slices.Equal(a.Communities, b.Communities)
}

// BGPChange is a delta of BGPRoutes, by the name of the peer. Applying it twice is
// the same as once.
type BGPChange map[string]RouteChange

// RouteChange is what becomes different towards one peer. No prefix is in both
// parts. An announced prefix that the peer has already is replaced.
type RouteChange struct {
	Announce Routes
	Withdraw []netip.Prefix
}

// Advertiser is a node that advertises a Service, and the peers that it does
// so to: what is configured, whether or not the sessions are established.
type Advertiser struct {
	Node string
	// Peers are names of BGPPeers, sorted.
	Peers []string
}

// Session is a BGP session, or, for a peer with a prefix, a family of them,
// that this node keeps.
type Session struct {
	// Peer is the object, compiled. Everything of it but Password,
	// PasswordSecret, NodeSelectors and BFD concerns the session.
	*config.Peer
	// Families of the prefixes that the session carries.
	IPv4, IPv6 bool
	// Key is the TCP MD5 key, resolved from the password or the Secret; "" for
	// none. It is never logged.
	Key string
	// ID is the BGP identifier: an IPv4 address, never invalid.
	ID netip.Addr
}

// Refusal says why there can be no session with a peer that selects this node.
type Refusal struct {
	// Peer is the name of the BGPPeer.
	Peer   string
	Reason reason.Reason
	// Message is a sentence for people.
	Message string
}

// BFD is the whole wanted state of the BFD room.
type BFD map[observed.BFDPeer]BFDParameters

// BFDParameters are those of one session. Values are comparable.
type BFDParameters struct {
	// TransmitInterval and ReceiveInterval are bfd.DesiredMinTxInterval while
	// Up and bfd.RequiredMinRxInterval (RFC 5880, section 6.8.1).
	TransmitInterval, ReceiveInterval time.Duration
	DetectMultiplier                  uint8
	// Echo sends echo packets every EchoInterval, which is also what the peer
	// may send at most. EchoInterval is zero where no echo is taken back.
	Echo         bool
	EchoInterval time.Duration
	// Passive waits for the peer's first packet.
	Passive bool
	// MinimumTTL of received packets; single-hop sessions demand 255 whatever
	// it says (RFC 5881, section 5).
	MinimumTTL uint8
	// Auth is the zero value where packets are not authenticated.
	Auth BFDAuth
}

// BFDAuth is the authentication of a session (RFC 5880, section 6.7).
type BFDAuth struct {
	// Meticulous chooses Meticulous Keyed SHA1 in place of Keyed SHA1.
	Meticulous bool
	KeyID      uint8
	// Key is 1 to 20 bytes; "" switches authentication off. It is never logged.
	Key string
}
