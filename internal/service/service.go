// Package service turns a Kubernetes Service and its EndpointSlices into the
// values that Herald decides on.
//
// It is pure: it parses once, at the edge, so that nobody behind it sees an
// annotation, a string to parse or a Kubernetes object. What cannot be parsed
// becomes a Problem with a sentence; nothing here panics on any input.
// The controller and the speaker both call it.
package service

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/reason"
)

// Key names a Service.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Family is an IP address family.
type Family uint8

// The address families. The zero value is no family.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyPolicy is the Service's spec.ipFamilyPolicy.
type FamilyPolicy uint8

// The family policies; an unset policy is SingleStack.
const (
	SingleStack FamilyPolicy = iota
	PreferDualStack
	RequireDualStack
)

// Port is one (protocol, port) pair that a Service occupies on its address.
// Protocol is TCP, UDP or SCTP; Port is the Service port, not the node port.
type Port struct {
	Protocol string
	Port     uint16
}

// Service is what Herald knows of one Service. It is immutable.
type Service struct {
	Key     Key
	UID     string
	Created time.Time
	Labels  map[string]string

	// LoadBalancer is true for spec.type LoadBalancer.
	LoadBalancer bool
	// Class is spec.loadBalancerClass, "" when there is none.
	Class string

	// ClusterIPs are the parsed spec.clusterIPs, empty for a headless Service
	// or one that has none yet.
	ClusterIPs []netip.Addr
	Policy     FamilyPolicy
	// PreferIPv6 is true when the first of spec.ipFamilies is IPv6.
	PreferIPv6 bool

	// Local is true for externalTrafficPolicy Local.
	Local bool
	// BackendKey distinguishes the backends of Services that share an address:
	// "" for policy Cluster, the canonical selector for policy Local.
	BackendKey string
	// SharingKey is the value of the allow-shared-ip annotation.
	SharingKey string
	// AllowsSharing is true when that annotation is present, whatever its value.
	AllowsSharing bool
	Ports         []Port

	// WantAddresses are the addresses asked for by annotation or by
	// spec.loadBalancerIP, at most one of each family, in the order given.
	WantAddresses []netip.Addr
	// WantPool is the pool asked for by annotation.
	WantPool string

	// Addresses are the addresses in status.loadBalancer.ingress, in its order.
	Addresses []netip.Addr
	// Pool is the ip-allocated-from-pool annotation.
	Pool string
	// BadIngress is true when an entry of the status cannot be read as an
	// address (hostname-only entries included).
	BadIngress bool

	// BGP are the attributes asked for by annotation. They count where a
	// BGPAdvertisement allows it.
	BGP BGP

	// Problems are the requests that could not be understood.
	Problems []Problem
	// DeprecatedAnnotations are the keys with the old metallb.universe.tf
	// prefix, sorted.
	DeprecatedAnnotations []string
}

// BGP are attributes that a Service asks for; the zero value asks for none.
type BGP struct {
	// Communities are literals or names, as in a BGPAdvertisement.
	Communities []string
	LocalPref   *uint32
	MED         *uint32
	Prepend     *uint8
}

// A Problem is a part of a Service that cannot be understood.
type Problem struct {
	// Field is the annotation key or the field path.
	Field   string
	Reason  reason.Reason
	Message string
}

// Endpoints are a Service's endpoints that can serve, over all its slices.
type Endpoints struct {
	// Any is true when an endpoint anywhere can serve.
	Any bool
	// Nodes counts the endpoints that can serve, by node name. Endpoints
	// without a node name are not in it.
	Nodes map[string]int
}
