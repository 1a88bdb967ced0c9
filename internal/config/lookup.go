package config

import (
	"math"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
)

// ownedSpan is a range and the pool it belongs to.
type ownedSpan struct {
	span
	pool *Pool
}

// NewSnapshot puts pools and advertisements that were made by hand into a
// Snapshot that can be searched and compared. Compile does this by itself.
// It takes the pools over: they must not overlap, and it sorts the list.
func NewSnapshot(s Snapshot) *Snapshot {
	for _, p := range s.Pools {
		if p.spans == nil {
			for _, prefix := range p.Prefixes {
				p.spans = append(p.spans, span{from: prefix.Addr(), to: Last(prefix)})
			}
			slices.SortFunc(p.spans, func(a, b span) int { return a.from.Compare(b.from) })
		}
	}
	slices.SortFunc(s.Pools, func(a, b *Pool) int { return strings.Compare(a.Name, b.Name) })
	s.index = nil
	for _, p := range s.Pools {
		for _, r := range p.spans {
			s.index = append(s.index, ownedSpan{span: r, pool: p})
		}
	}
	slices.SortFunc(s.index, func(a, b ownedSpan) int { return a.from.Compare(b.from) })
	s.digest = s.fingerprint()
	return &s
}

// Pool returns the pool of that name, or nil.
func (s *Snapshot) Pool(name string) *Pool {
	i, ok := slices.BinarySearchFunc(s.Pools, name, func(p *Pool, name string) int {
		return strings.Compare(p.Name, name)
	})
	if !ok {
		return nil
	}
	return s.Pools[i]
}

// PoolOf returns the pool from which a Service has addrs; hint is the pool that
// its annotation names. That is the pool that holds all of them, avoidBuggyIPs
// aside; but the hinted one if that is Incomplete, whoever holds them. It is
// nil if there is no such pool.
//
// The cost is a binary search over the ranges of all pools.
func (s *Snapshot) PoolOf(addrs []netip.Addr, hint string) *Pool {
	if len(addrs) == 0 {
		return nil
	}
	owner := s.holder(addrs[0])
	for _, a := range addrs[1:] {
		if s.holder(a) != owner {
			owner = nil
			break
		}
	}
	if owner != nil && owner.Name == hint {
		return owner
	}
	if hinted := s.Pool(hint); hinted != nil && hinted.Incomplete {
		return hinted
	}
	return owner
}

// holder returns the pool that holds one address, or nil.
func (s *Snapshot) holder(a netip.Addr) *Pool {
	i, found := slices.BinarySearchFunc(s.index, a, func(r ownedSpan, a netip.Addr) int {
		return r.from.Compare(a)
	})
	if !found {
		i--
	}
	if i < 0 || !s.index[i].contains(a) {
		return nil
	}
	return s.index[i].pool
}

// Contains is true when a is one of the pool's addresses, avoidBuggyIPs aside.
func (p *Pool) Contains(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(p.spans, a, func(r span, a netip.Addr) int {
		return r.from.Compare(a)
	})
	if !found {
		i--
	}
	return i >= 0 && p.spans[i].contains(a)
}

// Usable is true when a may be given to a Service: the pool contains it, and
// avoidBuggyIPs does not rule it out.
func (p *Pool) Usable(a netip.Addr) bool {
	return p.Contains(a) && !(p.AvoidBuggyIPs && buggy(a))
}

// buggy is true for IPv4 addresses that end in .0 or .255.
func buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}

// Capacity counts the usable addresses of each family; math.MaxInt64 stands
// for that many or more.
func (p *Pool) Capacity() (v4, v6 int64) {
	for _, prefix := range p.Prefixes {
		if prefix.Addr().Is4() {
			v4 += p.usableIPv4(prefix)
			continue
		}
		v6 = addSaturating(v6, size(prefix))
	}
	return v4, v6
}

// usableIPv4 counts the addresses of one IPv4 prefix that Usable admits.
func (p *Pool) usableIPv4(prefix netip.Prefix) int64 {
	n := size(prefix)
	switch {
	case !p.AvoidBuggyIPs:
		return n
	case prefix.Bits() <= 24:
		return n - 2*(n/256)
	}
	// Within one /24 only the ends of the prefix can be .0 or .255.
	if buggy(prefix.Addr()) {
		n--
	}
	if last := Last(prefix); last != prefix.Addr() && buggy(last) {
		n--
	}
	return n
}

func size(prefix netip.Prefix) int64 {
	host := prefix.Addr().BitLen() - prefix.Bits()
	if host >= 63 {
		return math.MaxInt64
	}
	return 1 << host
}

func addSaturating(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Admits is true when the pool's serviceAllocation admits a Service with these
// labels, in the namespace of that name and with those labels.
func (p *Pool) Admits(namespace string, namespaceLabels, serviceLabels labels.Set) bool {
	if p.Pin == nil {
		return true
	}
	return p.Pin.admitsNamespace(namespace, namespaceLabels) &&
		Matches(p.Pin.ServiceSelectors, serviceLabels)
}

func (p *Pin) admitsNamespace(name string, set labels.Set) bool {
	if p.AnyNamespace {
		return true
	}
	if _, ok := p.Namespaces[name]; ok {
		return true
	}
	// Here no selectors means no match, unlike everywhere else.
	return len(p.NamespaceSelectors) > 0 && Matches(p.NamespaceSelectors, set)
}

// Matches is true when any of the selectors matches set, or when there are no
// selectors at all: the meaning of every selector list but
// Pin.NamespaceSelectors.
func Matches(selectors []labels.Selector, set labels.Set) bool {
	if len(selectors) == 0 {
		return true
	}
	for _, s := range selectors {
		if s.Matches(set) {
			return true
		}
	}
	return false
}
