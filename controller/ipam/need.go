package ipam

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// A need is the address families that a Service wants.
type need struct {
	v4, v6 bool
	// prefer is true when one of two families is better than none, and v6First
	// when that one is rather IPv6.
	prefer, v6First bool
}

// needOf reads the need off the cluster IPs, which are the truth about a
// Service's families. PreferDualStack concerns only a Service that has two: on
// a single-stack cluster it is SingleStack.
func needOf(svc *service.Service) (need, *Refusal) {
	if len(svc.ClusterIPs) == 0 {
		return need{}, &Refusal{reason.NoClusterIP, "the Service has no cluster IP, so its address families are not known"}
	}
	if svc.Policy == service.RequireDualStack && len(svc.ClusterIPs) < 2 {
		return need{}, &Refusal{reason.NotEnoughClusterIPs, "ipFamilyPolicy is RequireDualStack, but the Service has only the cluster IP " + svc.ClusterIPs[0].String()}
	}
	n := need{v6First: svc.PreferIPv6}
	for _, ip := range svc.ClusterIPs {
		n.v4 = n.v4 || ip.Is4()
		n.v6 = n.v6 || ip.Is6()
	}
	n.prefer = n.both() && svc.Policy == service.PreferDualStack
	return n, nil
}

func (n need) both() bool { return n.v4 && n.v6 }

// kind returns how a Service with this need and nothing yet waits.
func (n need) kind(sh sharing) kind {
	switch {
	case n.prefer:
		return needPrefer
	case n.both() && sh.key != "":
		return needBothShared
	case n.both():
		return needBoth
	case n.v4:
		return need4
	}
	return need6
}

// String names the families, for sentences such as "no free IPv4 address".
func (n need) String() string {
	switch {
	case n.prefer:
		return "IPv4 or IPv6"
	case n.both():
		return "pair of an IPv4 and an IPv6"
	case n.v4:
		return "IPv4"
	}
	return "IPv6"
}

// wanted returns those of the addresses whose family is needed, in their
// order; none when there are two of one family, since nobody can say which of
// them counts.
func (n need) wanted(addrs []netip.Addr) []netip.Addr {
	keep := make([]netip.Addr, 0, 2)
	for _, addr := range addrs {
		if !(addr.Is4() && n.v4 || addr.Is6() && n.v6) {
			continue
		}
		if slices.ContainsFunc(keep, func(k netip.Addr) bool { return k.Is4() == addr.Is4() }) {
			return nil
		}
		keep = append(keep, addr)
	}
	return keep
}

// exactly reports whether the addresses are one of each needed family.
func (n need) exactly(addrs []netip.Addr) bool {
	count := 0
	if n.v4 {
		count++
	}
	if n.v6 {
		count++
	}
	return len(addrs) == count && len(n.wanted(addrs)) == count
}

func sameAddrs(a, b []netip.Addr) bool { return len(a) == len(b) && subset(a, b) }

func subset(a, b []netip.Addr) bool {
	return !slices.ContainsFunc(a, func(addr netip.Addr) bool { return !slices.Contains(b, addr) })
}
