package plan

import "net/netip"

// families is a set of IP families.
type families uint8

const (
	ipv4 families = 1 << iota
	ipv6
	allFamilies = ipv4 | ipv6
)

// familiesThat returns those for which the answer is true.
func familiesThat(v4, v6 bool) (f families) {
	if v4 {
		f |= ipv4
	}
	if v6 {
		f |= ipv6
	}
	return f
}

// familiesOf returns the families of addresses, none of which is IPv4-mapped.
func familiesOf(addresses []netip.Addr) (f families) {
	for _, a := range addresses {
		f |= familiesThat(a.Is4(), a.Is6())
	}
	return f
}

func (f families) String() string {
	return [...]string{"no addresses", "IPv4", "IPv6", "IPv4 and IPv6"}[f]
}
