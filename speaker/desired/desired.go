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

// Decision is what the plan says of one Service on this node, over one
// protocol.
//
// Every Service has at least one. Over layer 2 it has one unless its pool has
// BGPAdvertisements and no L2Advertisement; over BGP it has one if its pool has
// a BGPAdvertisement. Where no pool is known, the advertisements that exist at
// all count in place of those of the pool. So neither protocol complains of
// what was meant for the other. A Decision that ceases to be, while its Service
// stays, is in index.Change.Dropped, once.
//
// A Decision whose reason is Starting says that this node does not know yet:
// what an earlier life of this speaker wrote down stays as it is until the next
// Decision of that protocol.
//
// Over BGP every node decides for itself, without the membership ring; there
// is no Owner. A node may advertise a Service over BGP while its layer 2
// Decision still says Starting.
//
// All Decisions on a Service agree on Reports: one node tells of both
// protocols, in one condition. The Service is announced if its layer 2 Decision
// says Announce or its BGP Decision names Advertisers. If neither is so, each
// says why: over layer 2 Reason and Message, over BGP Outcome; with both, what
// layer 2 says comes first.
type Decision struct {
	Service   service.Key
	Protocol  Protocol
	Addresses []netip.Addr
	// Announce is true when this node announces the Service.
	Announce bool
	// Owner is the node that owns the Service's addresses, "" if none does;
	// none over BGP.
	Owner string
	// Interfaces are the names it is announced from; nil means all.
	Interfaces []string
	// Reason is why this node announces the Service or does not.
	Reason reason.Reason
	// Message is the sentence for people; it names what the reason leaves open.
	Message string
	// Peers are the names of the BGPPeers that this node advertises the Service
	// to, sorted; none over layer 2. The slice is shared.
	Peers []string
	// Advertisers are, on the node that reports, all nodes that advertise the
	// Service over BGP, in name order, as far as their speakers are alive; none
	// over layer 2. The slice is shared by many Services: two Decisions whose
	// slices begin at the same place have the same Advertisers.
	Advertisers []Advertiser
	// Outcome is, on the node that reports, why no node at all advertises the
	// Service over BGP; the zero value if one does, and over layer 2.
	Outcome Outcome
	// Ignored is, over BGP and on the node that reports, what the Service asks for
	// by annotation and does not get because it cannot be understood.
	Ignored string
	// Reports is true on the one node that tells the outcome on the Service
	// itself (condition, announceFailed event). With a layer 2 Decision that is
	// its owner or, if nobody owns it, the node that knows the cluster and whose
	// reason explains most; with a BGP Decision alone, the first node in name
	// order that knows the cluster. No node while starting.
	Reports bool
}

// Outcome is the reason of the node that came closest to announcing a Service,
// in words that speak for all nodes.
type Outcome struct {
	Reason  reason.Reason
	Message string
}

// Subject is what a Decision is on.
type Subject struct {
	Service  service.Key
	Protocol Protocol
}
