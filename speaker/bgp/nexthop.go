package bgp

import "net/netip"

// NextHops are the next hops that a session announces its prefixes with; one
// that is invalid means that the family cannot be announced over it.
type NextHops struct {
	IPv4, IPv6 netip.Addr
}

// Local is what the node knows of its own side of a session.
type Local struct {
	// Session is the session's own address.
	Session netip.Addr
	// Interface holds the addresses of the interface that has it, Node those of
	// the whole node: for IPv6 only global ones.
	Interface, Node []netip.Addr
}

// ChooseNextHops picks the next hops of a session. The session's own address is
// the one where the family is its own. For the other family the interface needs
// an address of it, one that the peer can reach as directly as the session's own;
// where the peer is several hops away, any of the node's will do.
//
// IPv4 prefixes go with an IPv6 next hop where the peer takes that (RFC 8950):
// that is the address which the session has proven. An IPv4-mapped address is
// never told: RFC 4760 does not know it, and routers refuse it or lose traffic.
func ChooseNextHops(local Local, ipv4OverIPv6 bool) NextHops {
	self := local.Session.Unmap().WithZone("")
	if self.Is4() {
		return NextHops{IPv4: self, IPv6: local.other(netip.Addr.Is6)}
	}
	hops := NextHops{IPv6: self}
	if ipv4OverIPv6 {
		hops.IPv4 = self
	} else {
		hops.IPv4 = local.other(netip.Addr.Is4)
	}
	return hops
}

func (l Local) other(is func(netip.Addr) bool) netip.Addr {
	for _, list := range [][]netip.Addr{l.Interface, l.Node} {
		for _, a := range list {
			if is(a) && !a.IsLinkLocalUnicast() && !a.IsLoopback() {
				return a
			}
		}
	}
	return netip.Addr{}
}
