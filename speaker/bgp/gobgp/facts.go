package gobgp

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/heraldlb/herald/speaker/bgp"
)

// localFacts reads the node's addresses, as a session from local can use them.
func localFacts(local netip.Addr) (bgp.Local, error) {
	facts := bgp.Local{Session: local}
	links, err := net.Interfaces()
	if err != nil {
		return facts, fmt.Errorf("read the node's interfaces: %w", err)
	}
	for _, link := range links {
		addrs, err := link.Addrs()
		if err != nil {
			continue // it has just gone
		}
		var list []netip.Addr
		here := link.Name == local.Zone()
		for _, a := range addrs {
			p, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			addr, ok := netip.AddrFromSlice(p.IP)
			if !ok {
				continue
			}
			addr = addr.Unmap()
			list = append(list, addr)
			here = here || addr == local
		}
		if here {
			facts.Interface = append(facts.Interface, list...)
		}
		facts.Node = append(facts.Node, list...)
	}
	return facts, nil
}
