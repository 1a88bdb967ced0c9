// Package config compiles the metallb.io objects into an immutable snapshot.
//
// Compile is pure and total: any input gives a Snapshot that holds everything
// sound, and a list of Problems that names the object, the field and what was
// expected. One bad object harms only itself. The order of the input does not
// matter. After Compile nobody sees an API object or a string to parse.
//
// What depends on the labels of live objects (nodes, namespaces, Services)
// stays a labels.Selector in the Snapshot: its reader asks with the labels of
// the moment, so that a relabelled node needs no new configuration. The names
// of pools, peers, profiles and communities are resolved. Secrets are not:
// their content is nobody's configuration.
//
// The controller and the speaker call Compile whenever an object changes, and
// throw the result away if it equals the one they have (Snapshot.Equal).
package config

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"
)

// Snapshot is the compiled configuration. It is immutable after Compile.
type Snapshot struct {
	// Pools in name order.
	Pools []*Pool
	// L2Advertisements in name order.
	L2Advertisements []*L2Advertisement
	// BGPAdvertisements in name order.
	BGPAdvertisements []*BGPAdvertisement
	// Peers are the usable BGPPeers in name order.
	Peers []*Peer
	// BFDProfiles in name order.
	BFDProfiles []*BFDProfile
	// Communities are the names that Community objects define.
	Communities map[string]Community

	// index is what PoolOf searches: the ranges of all pools, ascending.
	index []ownedSpan
	// digest is the fingerprint that Equal compares.
	digest [32]byte
}

// Pool is one IPAddressPool.
type Pool struct {
	Name   string
	Labels labels.Set
	// Prefixes in scan order: the entries of spec.addresses in their order, a
	// range summarised to its CIDRs in ascending order. They never overlap,
	// neither within a pool nor between pools.
	Prefixes      []netip.Prefix
	AutoAssign    bool
	AvoidBuggyIPs bool
	// Pin restricts and orders the pool; nil for an unpinned pool.
	Pin *Pin
	// Incomplete is true when an entry of spec.addresses could not be used: it
	// makes no sense, or another pool holds its addresses. What a Service has
	// from this pool by its annotation it then keeps, and it is advertised as
	// this pool says, since nobody knows that the pool was to lose it; until
	// the controller finds a pool that holds it and admits the Service, and
	// changes the annotation.
	Incomplete bool
	// L2 are the advertisements that select this pool, in name order.
	L2 []*L2Advertisement
	// BGP are the advertisements that select this pool, in name order. Those
	// that contradict the pool or an older advertisement of it are left out.
	BGP []*BGPAdvertisement

	// spans are the ranges of the pool in ascending order.
	spans []span
	// shortest is, by family, the shortest prefix length that a
	// BGPAdvertisement of this pool may aggregate to.
	shortest map[family]int
}

// Pin is a pool's serviceAllocation.
type Pin struct {
	// Priority: positive numbers are tried first, in ascending order; zero and
	// negative numbers last.
	Priority int
	// AnyNamespace is true when neither namespaces nor namespaceSelectors are
	// given. It is false when selectors are given that match nothing.
	AnyNamespace       bool
	Namespaces         map[string]struct{}
	NamespaceSelectors []labels.Selector
	// ServiceSelectors are OR-ed; empty admits every Service.
	ServiceSelectors []labels.Selector
	// Incomplete is true when a selector could not be used; it then matches
	// nothing. A Service that holds an address of the pool keeps it, since
	// nobody knows that the pool stopped to admit it.
	Incomplete bool
}

// L2Advertisement is one L2Advertisement object.
type L2Advertisement struct {
	Name string
	// NodeSelectors are OR-ed; empty selects every node.
	NodeSelectors []labels.Selector
	// Interfaces are exact names, sorted; empty means all.
	Interfaces []string
	// ServiceSelectors are OR-ed; empty selects every Service.
	ServiceSelectors []labels.Selector
	// Preferences score nodes that NodeSelectors admit.
	Preferences []Preference
}

// Preference adds Weight to the score of every node that Nodes matches.
type Preference struct {
	Weight int32
	Nodes  labels.Selector
}

// Severity says how much a Problem harms.
type Severity uint8

const (
	// Warning: the object works, but not as its author may think.
	Warning Severity = iota
	// Error: the object, or the named part of it, is not used.
	Error
)

func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is something wrong with one object.
type Problem struct {
	// Kind, Namespace and Name say which object.
	Kind, Namespace, Name string
	// Field is the path of the field, for example spec.addresses[2].
	Field    string
	Severity Severity
	// Message says what is wrong and what was expected, as one sentence.
	Message string
}

// String names the object, the field and what is wrong, on one line.
func (p Problem) String() string {
	return fmt.Sprintf("%s %s/%s: %s: %s", p.Kind, p.Namespace, p.Name, p.Field, p.Message)
}
