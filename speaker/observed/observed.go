// Package observed holds the facts that a speaker knows: types only, no
// behaviour beyond simple questions. Values are immutable once published.
package observed

import (
	"bytes"
	"net"
	"net/netip"
)

// Phase is what a speaker says of itself to the others.
type Phase uint8

const (
	// Starting: it does not know the cluster yet; it is no candidate.
	Starting Phase = iota
	// Ready: it announces what it owns.
	Ready
	// Draining: it is about to leave; it is no candidate.
	Draining
	// Restarting: it comes back in a moment and stays the owner.
	Restarting
	// Gathering: it knows the cluster and is a candidate, but announces nothing
	// yet: nobody served before, and other speakers start with it.
	Gathering
)

// Interface is a network interface of a member, as shared by gossip.
type Interface struct {
	Name string
	// Prefixes are the on-link prefixes, sorted.
	Prefixes []netip.Prefix
	// Carrier is true when the interface is up and has a carrier.
	Carrier bool
	// IPv4 and IPv6 are true when it can announce addresses of that family now,
	// by the rule of Link.WhyNotIPv4 and Link.WhyNotIPv6.
	IPv4, IPv6 bool
}

// Member is one speaker that is alive in the ring.
type Member struct {
	Node  string
	Phase Phase
	// Known is false until the member's interfaces have arrived.
	Known bool
	// Interfaces in name order: those that the speaker may announce from.
	Interfaces []Interface
}

// Members is the membership ring as this node sees it.
type Members struct {
	// Enabled is false when membership is switched off. Every node of the
	// cluster then counts as alive and its interfaces are unknown.
	Enabled bool
	// Settled is true once the ring was joined or the grace for it has passed.
	Settled bool
	// Waiting says in one sentence why the ring is not settled; "" if it is.
	Waiting string
	// Members in node-name order, this node included.
	Members []Member
}

// Node is one Kubernetes Node.
type Node struct {
	Name   string
	Labels map[string]string
	// NetworkUnavailable is the truth of that condition.
	NetworkUnavailable bool
	// NotReady is true when the cluster says that the node is not ready, or has
	// not heard of it for long.
	NotReady bool
	// Excluded is true when the node carries the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	Excluded bool
	// Leaving is true when no new pods come to the node (it is cordoned, or out of
	// service): a speaker that is told to end there does not come back soon.
	Leaving bool
	// Addresses are the node's InternalIPs, in the order of the object.
	Addresses []netip.Addr
}

// Link is one network interface of this node, as rtnetlink tells it.
type Link struct {
	Index int
	Name  string
	// Kind is the rtnetlink kind (veth, bridge, vlan, bond, vrf …), "" for a
	// physical device.
	Kind string
	MAC  net.HardwareAddr
	// Up is the administrative state, Carrier the operational one.
	Up, Carrier bool
	Loopback    bool
	Broadcast   bool
	Multicast   bool
	NoARP       bool
	// Master is the index of the device that enslaves this one, 0 if none, and
	// MasterKind its kind.
	Master     int
	MasterKind string
	// Prefixes are the on-link prefixes of its addresses, link-local ones left
	// out, sorted.
	Prefixes []netip.Prefix
	// LinkLocal is a usable (not tentative) IPv6 link-local address; the zero
	// value if there is none.
	LinkLocal netip.Addr
}

// WhyNotIPv4 says in one sentence what keeps the interface from announcing IPv4
// addresses now; "" if nothing does.
func (l Link) WhyNotIPv4() string {
	switch why := l.whyNot(); {
	case why != "":
		return why
	case !l.Broadcast:
		return "The interface cannot broadcast, so it cannot carry ARP."
	case l.NoARP:
		return "The interface does without ARP."
	}
	return ""
}

// WhyNotIPv6 says in one sentence what keeps the interface from announcing IPv6
// addresses now; "" if nothing does.
func (l Link) WhyNotIPv6() string {
	switch why := l.whyNot(); {
	case why != "":
		return why
	case !l.Multicast:
		return "The interface cannot multicast, so it cannot carry NDP."
	// An interface without one takes no part in IPv6: RFC 4862 section 5.4.5
	// shuts it when that address is a duplicate.
	case !l.LinkLocal.IsValid():
		return "The interface has no usable IPv6 link-local address."
	}
	return ""
}

// whyNot says what keeps the interface from announcing anything.
func (l Link) whyNot() string {
	switch {
	case !l.Up:
		return "The interface is down."
	case !l.Carrier:
		return "The interface has no carrier."
	case len(l.MAC) != 6 || l.MAC[0]&1 == 1 || bytes.Equal(l.MAC, make([]byte, 6)):
		return "The interface has no Ethernet address."
	}
	return ""
}

// Links are the interfaces of this node, in index order.
type Links []Link

// L2 is what the layer 2 room truly reached, for every address it was told to
// announce.
type L2 map[netip.Addr]L2Address

// L2Address is what the layer 2 room reached for one address.
type L2Address struct {
	// Interfaces are the names it is announced from, sorted.
	Interfaces []string
	// Failures are the interfaces that were asked for and do not announce,
	// each with the reason, in name order.
	Failures []L2Failure
}

// L2Failure says why one interface does not announce an address.
type L2Failure struct {
	// Interface is the name, "" when no interface at all can announce.
	Interface string
	// Message is a sentence for people.
	Message string
}
