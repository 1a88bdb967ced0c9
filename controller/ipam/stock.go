package ipam

import (
	"math"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/service"
)

// A stock is the addresses of one family in one pool. It numbers them in scan
// order, leaving out those that avoidBuggyIPs forbids: position 0 is the
// address that is given out first.
type stock struct {
	spans []span
	// last is the highest position; meaningless when the stock is empty.
	last u128
	// taken holds the positions that automatic assignment must pass over:
	// those of addresses that are held, and of those set aside for a waiting
	// Service that asks for them by name.
	taken set
	// held counts the distinct addresses that Services hold.
	held int
	// shared finds, per kind of sharing, the addresses that one may join.
	shared map[sharing]*commons
	// touched is true while the stock stands in the Allocator's list of stocks
	// that may have something new to give.
	touched bool
	pool    *pool
}

// A span is one prefix of a stock.
type span struct {
	prefix netip.Prefix
	// first is the number of the first usable address, start its position, and
	// more how many follow it: a count would not hold the 2^128 of ::/0.
	first, start, more u128
	// gaps is true when the span covers whole /24s whose .0 and .255 are left
	// out: it then holds 254 of each 256 addresses.
	gaps bool
}

// newStock numbers the addresses of the prefixes of one family.
func newStock(p *pool, prefixes []netip.Prefix, avoidBuggy bool) *stock {
	s := &stock{pool: p}
	next := u128{}
	for _, prefix := range prefixes {
		sp, ok := newSpan(prefix, avoidBuggy)
		if !ok {
			continue
		}
		sp.start = next
		s.last = next.add(sp.more)
		next = s.last.inc()
		s.spans = append(s.spans, sp)
	}
	s.taken = newSet(s.last)
	return s
}

func newSpan(prefix netip.Prefix, avoidBuggy bool) (span, bool) {
	first := number(prefix.Addr())
	host := uint(prefix.Addr().BitLen() - prefix.Bits())
	more := u128{lo: 1}.shl(host).sub(u128{lo: 1})
	sp := span{prefix: prefix, first: first, more: more}
	if !avoidBuggy || !prefix.Addr().Is4() {
		return sp, true
	}
	if prefix.Bits() <= 24 {
		sp.gaps = true
		sp.first = first.inc()
		sp.more = u128{lo: (more.lo+1)>>8*254 - 1}
		return sp, true
	}
	size := more.lo + 1
	if first.lo&255 == 0 {
		sp.first = sp.first.inc()
		size--
	}
	if (first.lo+more.lo)&255 == 255 {
		size--
	}
	if size == 0 {
		return span{}, false
	}
	sp.more.lo = size - 1
	return sp, true
}

// empty reports whether the stock has no address at all.
func (s *stock) empty() bool { return len(s.spans) == 0 }

// position returns the position of an address; false if the span leaves it out.
func (sp *span) position(a netip.Addr) (u128, bool) {
	n := number(a)
	if n.less(sp.first) {
		return u128{}, false
	}
	off := n.sub(sp.first)
	if sp.gaps {
		if octet := n.lo & 255; octet == 0 || octet == 255 {
			return u128{}, false
		}
		off = u128{lo: off.lo>>8*254 + off.lo&255}
	}
	if sp.more.less(off) {
		return u128{}, false
	}
	return sp.start.add(off), true
}

// address is the inverse of position.
func (s *stock) address(pos u128) netip.Addr {
	i, found := slices.BinarySearchFunc(s.spans, pos, func(sp span, p u128) int {
		switch {
		case sp.start.less(p):
			return -1
		case p.less(sp.start):
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	sp := &s.spans[i]
	off := pos.sub(sp.start)
	if sp.gaps {
		off = u128{lo: off.lo/254<<8 + off.lo%254}
	}
	return sp.first.add(off).address(sp.prefix.Addr().Is4())
}

// firstFree returns the position of the first address that is neither held nor
// set aside.
func (s *stock) firstFree() (u128, bool) {
	if s.empty() {
		return u128{}, false
	}
	pos, ok := s.taken.firstAbsent()
	return pos, ok && !s.last.less(pos)
}

// pick returns the first address that is free or that a Service with this
// sharing and these ports may join, whichever comes first. It passes over the
// addresses that are set aside.
func (s *stock) pick(sh sharing, ports []service.Port, asides map[netip.Addr]*queue) (netip.Addr, bool) {
	free, ok := s.firstFree()
	if common := s.commons(sh); common != nil {
		for from := (u128{}); ; {
			pos, found := common.first(from, ports)
			if !found || ok && free.less(pos) {
				break
			}
			if a := s.address(pos); asides[a] == nil {
				return a, true
			}
			from = pos.inc()
		}
	}
	if !ok {
		return netip.Addr{}, false
	}
	return s.address(free), true
}

// commons returns the addresses that a Service with this sharing may look at;
// nil when there are none.
func (s *stock) commons(sh sharing) *commons {
	if sh.key == "" {
		return nil
	}
	return s.shared[sh]
}

// total returns how many addresses the stock has, or the largest int64.
func (s *stock) total() int64 {
	if s.empty() {
		return 0
	}
	if n := s.last.int64(); n < math.MaxInt64 {
		return n + 1
	}
	return math.MaxInt64
}

// available returns how many addresses nobody holds, or the largest int64.
func (s *stock) available() int64 {
	if s.empty() || s.held == 0 {
		return s.total()
	}
	// last+1-held, in an order that does not wrap for 2^128 addresses. Held
	// addresses all have a position, so last ≥ held-1.
	return s.last.sub(u128{lo: uint64(s.held - 1)}).int64()
}

// sharing is what Services on one address must have in common. A Service
// without a key shares with nobody.
type sharing struct{ key, backend string }

// commons are the addresses of one stock that Services with one sharing hold.
type commons struct {
	all set
	// ports holds, per port, the positions where it is in use: a subset of all.
	ports map[service.Port]*set
}

// first returns the first position at or after from where none of the ports is
// in use. For one port it takes one descent; for several it leaps from one
// port's answer to the next.
func (c *commons) first(from u128, ports []service.Port) (u128, bool) {
	pos, ok := c.all.next(from, nil)
	for settled := 0; ok && settled < len(ports); {
		settled = 0
		for _, p := range ports {
			used := c.ports[p]
			if used == nil {
				settled++
				continue
			}
			var next u128
			if next, ok = c.all.next(pos, used); !ok {
				break
			}
			if next == pos {
				settled++
			}
			pos = next
		}
	}
	return pos, ok
}
