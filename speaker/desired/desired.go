// Package desired holds what the plan wants from the rooms: types only.
// Values are immutable once published.
package desired

import (
	"net/netip"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// L2 is the whole wanted state of the layer 2 room: the addresses that this
// node answers for. They are plain: IPv4 unmapped, and without a zone.
type L2 map[netip.Addr]L2Address

// L2Address says from where one address is announced.
type L2Address struct {
	// Interfaces are the names to announce from, sorted; nil means all.
	Interfaces []string
}

// L2Change is a delta of L2. Applying it twice is the same as once.
type L2Change struct {
	Announce L2
	Withdraw []netip.Addr
}

// Protocol is how an address is announced.
type Protocol string

// The protocols, as metrics, events and status name them.
const (
	Layer2 Protocol = "layer2"
	BGP    Protocol = "bgp"
)

// Decision is what the plan says of one Service on this node.
type Decision struct {
	Service   service.Key
	Protocol  Protocol
	Addresses []netip.Addr
	// Announce is true when this node announces the Service.
	Announce bool
	// Owner is the node that owns the Service's addresses, "" if none does.
	Owner string
	// Interfaces are the names it is announced from; nil means all.
	Interfaces []string
	Reason     reason.Reason
	// Message is the sentence for people; it names what the reason leaves open.
	Message string
	// Peers are the names of the BGPPeers that this node advertises the Service
	// to, sorted; none over layer 2.
	Peers []string
	// Advertisers are, on the node that reports, all nodes that advertise the
	// Service over BGP, in name order; none over layer 2.
	Advertisers []Advertiser
	// Reports is true on the one node that tells the outcome on the Service
	// itself (condition, announceFailed event): its owner or, if nobody owns
	// it, the node that knows the cluster and whose reason explains most. No node
	// while starting.
	Reports bool
}
