package podnet

import (
	"fmt"
	"net/netip"
)

// pool hands out the addresses of one prefix in turn, so that an address that
// was freed is not used again at once.
type pool struct {
	prefix netip.Prefix
	next   netip.Addr
	used   map[netip.Addr]bool
}

func newPool(p netip.Prefix) *pool {
	return &pool{prefix: p.Masked(), next: p.Masked().Addr(), used: map[netip.Addr]bool{}}
}

// take returns a free address. The first one of the prefix is never given out,
// nor is the last of an IPv4 prefix: network and broadcast.
func (p *pool) take() (netip.Addr, error) {
	// One try per address in use, one per address that is never given out, and
	// one more must meet a free address, or there is none.
	for range len(p.used) + 4 {
		p.next = p.next.Next()
		if !p.prefix.Contains(p.next) {
			p.next = p.prefix.Addr()
			continue
		}
		last := p.next.Is4() && !p.prefix.Contains(p.next.Next())
		if !last && !p.used[p.next] {
			p.used[p.next] = true
			return p.next, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("pod CIDR %s has no free address: %d pods hold one", p.prefix, len(p.used))
}

func (p *pool) give(a netip.Addr) { delete(p.used, a) }
