package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// BGPAdvertisement is one BGPAdvertisement object.
type BGPAdvertisement struct {
	Name string
	// AggregationLength and AggregationLengthV6 are the prefix lengths to
	// announce with.
	AggregationLength, AggregationLengthV6 int
	// LocalPref is the LOCAL_PREF towards iBGP peers, 0 for none.
	LocalPref uint32
	// Communities to attach, sorted, names resolved.
	Communities []Community
	// UnknownCommunities are the names that no Community object defines,
	// sorted. Announcing without them could lead traffic where it must not go:
	// while there are any, nothing is announced through this object.
	UnknownCommunities []string
	// NodeSelectors are OR-ed; empty selects every node.
	NodeSelectors []labels.Selector
	// Peers are names of BGPPeers, sorted; empty means all. Some of them need
	// not exist.
	Peers []string
	// ServiceSelectors are OR-ed; empty selects every Service.
	ServiceSelectors []labels.Selector
	// Prepend is how many more times than usual the local AS is in the path.
	Prepend uint8
	// MED is the MULTI_EXIT_DISC, nil for none.
	MED *uint32
	// WeightByEndpoints attaches the link-bandwidth community, in proportion to
	// the endpoints that a node has.
	WeightByEndpoints bool
	// ServiceMay are the attributes that a Service may set by annotation.
	ServiceMay ServiceAttributes
}

// ServiceAttributes is a set of attributes that a Service may set.
type ServiceAttributes uint8

// The attributes.
const (
	ServiceCommunities ServiceAttributes = 1 << iota
	ServiceLocalPref
	ServiceMED
	ServicePrepend
)

// Has tells whether all of want are in the set.
func (s ServiceAttributes) Has(want ServiceAttributes) bool { return s&want == want }

// CommunityKind tells the BGP communities apart.
type CommunityKind uint8

// The kinds: RFC 1997, RFC 8092 and RFC 4360.
const (
	StandardCommunity CommunityKind = iota
	LargeCommunity
	ExtendedCommunity
)

// Community is a BGP community. Values are comparable.
type Community struct {
	Kind CommunityKind
	// Fields are the two numbers of a standard community (the third is 0), the
	// three of a large one, or the octets of an extended one, four in each of
	// the first two, in network order.
	Fields [3]uint32
}

// String writes the community as objects do: 64512:100, large:64512:1:2,
// rt:64512:100, soo:64512:100, or ext: and eight octets in hexadecimal.
func (c Community) String() string {
	switch c.Kind {
	case LargeCommunity:
		return fmt.Sprintf("large:%d:%d:%d", c.Fields[0], c.Fields[1], c.Fields[2])
	case ExtendedCommunity:
		return extendedText(c.Fields[0], c.Fields[1])
	}
	return fmt.Sprintf("%d:%d", c.Fields[0], c.Fields[1])
}

// Compare orders communities: by kind, then by their numbers.
func (c Community) Compare(o Community) int {
	return cmp.Or(cmp.Compare(c.Kind, o.Kind), slices.Compare(c.Fields[:], o.Fields[:]))
}

// DynamicASN says which AS numbers of a peer are accepted.
type DynamicASN uint8

// The modes. The zero value accepts exactly Peer.PeerASN.
const (
	FixedASN DynamicASN = iota
	// InternalASN accepts a peer of our own AS.
	InternalASN
	// ExternalASN accepts a peer of any other AS.
	ExternalASN
)

// Peer is one BGPPeer object.
type Peer struct {
	Name  string
	MyASN uint32
	// PeerASN is the AS of the peer; 0 when Dynamic is set.
	PeerASN uint32
	Dynamic DynamicASN
	// LocalASN is shown to the peer in place of MyASN; 0 for none.
	LocalASN uint32
	// Address to dial; invalid for an unnumbered peer.
	Address netip.Addr
	// Interface of an unnumbered peer, "" otherwise.
	Interface string
	// Source is the local address; invalid to let the route decide.
	Source netip.Addr
	Port   uint16
	// HoldTime and KeepaliveTime are both nil or both set; 0 switches the
	// timers off.
	HoldTime, KeepaliveTime *time.Duration
	// ConnectTime is the time between two attempts to connect; nil if unset.
	ConnectTime *time.Duration
	// RouterID is an IPv4 address; invalid if unset.
	RouterID netip.Addr
	// NodeSelectors are OR-ed; empty selects every node.
	NodeSelectors []labels.Selector
	// Password is the TCP MD5 key; PasswordSecret names the Secret that holds
	// it. At most one of them is set.
	Password, PasswordSecret string
	// BFD watches the session; nil for none.
	BFD             *BFDProfile
	GracefulRestart bool
	EBGPMultiHop    bool
	VRF             string
	DualStack       bool
	// TTLSecurity drops what did not come from the next hop (GTSM, RFC 5082).
	TTLSecurity bool
	// Passive waits for the peer to dial.
	Passive bool
	// Prefix is where dynamic neighbours dial from; they are passive. Invalid
	// for all other peers. Exactly one of Address, Interface and Prefix is set.
	Prefix netip.Prefix
}

// BFDProfile is one BFDProfile object, with defaults in place of what is unset.
type BFDProfile struct {
	Name                              string
	ReceiveInterval, TransmitInterval time.Duration
	DetectMultiplier                  uint8
	EchoInterval                      time.Duration
	EchoMode, PassiveMode             bool
	MinimumTTL                        uint8
	// AuthSecret names the Secret that holds the key, "" where packets are not
	// authenticated; AuthMeticulous and AuthKeyID say how (RFC 5880, section 6.7).
	AuthSecret     string
	AuthMeticulous bool
	AuthKeyID      uint8
}
