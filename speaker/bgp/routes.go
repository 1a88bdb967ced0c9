package bgp

import (
	"net/netip"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// DiffRoutes is the way from old to next: applied to old it gives next.
func DiffRoutes(old, next desired.Routes) desired.RouteChange {
	c := desired.RouteChange{Announce: make(desired.Routes)}
	for p, a := range next {
		if was := old[p]; was == nil || !was.Equal(a) {
			c.Announce[p] = a
		}
	}
	for p := range old {
		if next[p] == nil {
			c.Withdraw = append(c.Withdraw, p)
		}
	}
	return c
}

// Apply changes routes in place.
func Apply(routes desired.Routes, c desired.RouteChange) {
	for _, p := range c.Withdraw {
		delete(routes, p)
	}
	for p, a := range c.Announce {
		routes[p] = a
	}
}

// WatchedBy tells whether a BFD session is the one that watches a BGP session
// between two addresses.
func WatchedBy(s *desired.Session, remote, local netip.Addr, key observed.BFDPeer) bool {
	if !remote.IsValid() || key.Remote != remote.WithZone("") || key.VRF != s.VRF {
		return false
	}
	if key.Local.IsValid() && local.IsValid() && key.Local.WithZone("") != local.WithZone("") {
		return false
	}
	if zone := remote.Zone(); zone != "" && key.Interface != "" && key.Interface != zone {
		return false
	}
	return true
}
