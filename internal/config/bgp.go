package config

import (
	"fmt"
	"net/netip"
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
	// while there are any, nothing new is announced through this object.
	UnknownCommunities []string
	// NodeSelectors are OR-ed; empty selects every node.
	NodeSelectors []labels.Selector
	// Peers are names of BGPPeers, sorted; empty means all. Some of them need
	// not exist.
	Peers []string
	// ServiceSelectors are OR-ed; empty selects every Service.
	ServiceSelectors []labels.Selector
}

// Community is a standard (RFC 1997) or a large (RFC 8092) BGP community.
// Values are comparable.
type Community struct {
	// Large tells the two apart.
	Large bool
	// Fields are the two numbers of a standard community (the third is 0), or
	// the three of a large one.
	Fields [3]uint32
}

// String writes the community as objects do: 64512:100 or large:64512:1:2.
func (c Community) String() string {
	if c.Large {
		return fmt.Sprintf("large:%d:%d:%d", c.Fields[0], c.Fields[1], c.Fields[2])
	}
	return fmt.Sprintf("%d:%d", c.Fields[0], c.Fields[1])
}

// Compare orders communities: standard ones first, then by their numbers.
func (c Community) Compare(o Community) int {
	switch {
	case c == o:
		return 0
	case c.Large != o.Large:
		if o.Large {
			return -1
		}
		return 1
	}
	for i := range c.Fields {
		if c.Fields[i] != o.Fields[i] {
			if c.Fields[i] < o.Fields[i] {
				return -1
			}
			return 1
		}
	}
	return 0
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
}

// BFDProfile is one BFDProfile object, with defaults in place of what is unset.
type BFDProfile struct {
	Name                              string
	ReceiveInterval, TransmitInterval time.Duration
	DetectMultiplier                  uint8
	EchoInterval                      time.Duration
	EchoMode, PassiveMode             bool
	MinimumTTL                        uint8
}
