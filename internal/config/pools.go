package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/api/v1beta1"
)

// pools compiles the pools, in name order.
func (c *compiler) pools() []*Pool {
	objects := byAge(c.objects.Pools)
	var entries []entry
	pools := make([]*Pool, len(objects))
	for i, o := range objects {
		r := c.about("IPAddressPool", o)
		pools[i] = r.pool(o)
		if len(o.Spec.Addresses) == 0 {
			r.errorf("spec.addresses", "the pool has no addresses: expected at least one CIDR or range")
			pools[i].Incomplete = true
		}
		for j, text := range o.Spec.Addresses {
			s, err := parseEntry(string(text))
			if err != nil {
				r.errorf(entryField(j), "%v", err)
				pools[i].Incomplete = true
				continue
			}
			entries = append(entries, entry{span: s, pool: i, index: j, text: string(text)})
		}
	}

	kept, lost := settle(entries)
	for _, l := range lost {
		keeper := objects[l.to.pool]
		which := fmt.Sprintf("%q, which is older and keeps it", keeper.Name)
		if l.to.pool == l.pool {
			which = fmt.Sprintf("%q itself (%s)", keeper.Name, entryField(l.to.index))
		}
		c.about("IPAddressPool", objects[l.pool]).errorf(entryField(l.index),
			"CIDR %q in pool %q overlaps with already defined CIDR %q in pool %s: expected addresses that no other entry holds",
			l.text, objects[l.pool].Name, l.to.text, which)
		pools[l.pool].Incomplete = true
	}
	for _, e := range kept {
		pools[e.pool].add(e.span)
	}
	for _, p := range pools {
		slices.SortFunc(p.spans, func(a, b span) int { return a.from.Compare(b.from) })
	}
	slices.SortStableFunc(pools, func(a, b *Pool) int { return strings.Compare(a.Name, b.Name) })
	return pools
}

func entryField(i int) string { return fmt.Sprintf("spec.addresses[%d]", i) }

// pool compiles everything but the addresses.
func (r report) pool(o *v1beta1.IPAddressPool) *Pool {
	p := &Pool{
		Name:          o.Name,
		Labels:        labels.Set(o.Labels),
		AutoAssign:    o.Spec.AutoAssign == nil || *o.Spec.AutoAssign,
		AvoidBuggyIPs: o.Spec.AvoidBuggyIPs,
		spans:         []span{},
		shortest:      map[family]int{},
	}
	if o.Spec.AllocateTo != nil {
		p.Pin = r.pin(o.Spec.AllocateTo)
	}
	return p
}

func (r report) pin(in *v1beta1.ServiceAllocation) *Pin {
	const field = "spec.serviceAllocation"
	pin := &Pin{
		Priority:     in.Priority,
		AnyNamespace: len(in.Namespaces) == 0 && len(in.NamespaceSelectors) == 0,
	}
	for _, name := range r.names(field+".namespaces", in.Namespaces) {
		if pin.Namespaces == nil {
			pin.Namespaces = make(map[string]struct{}, len(in.Namespaces))
		}
		pin.Namespaces[name] = struct{}{}
	}
	var namespacesOK, servicesOK bool
	pin.NamespaceSelectors, namespacesOK = r.selectors(field+".namespaceSelectors", in.NamespaceSelectors)
	pin.ServiceSelectors, servicesOK = r.selectors(field+".serviceSelectors", in.ServiceSelectors)
	pin.Incomplete = !namespacesOK || !servicesOK
	return pin
}

// add gives the pool one more range.
func (p *Pool) add(s span) {
	prefixes := Summarize(s.from, s.to)
	p.spans = append(p.spans, s)
	p.Prefixes = append(p.Prefixes, prefixes...)
	// An advertisement may aggregate to the shortest prefix of an entry, and to
	// no more than the strictest entry allows.
	bits := slices.MinFunc(prefixes, func(a, b netip.Prefix) int { return a.Bits() - b.Bits() }).Bits()
	f := familyOf(s.from)
	p.shortest[f] = max(p.shortest[f], bits)
}

// has is true when the pool has addresses of the family.
func (p *Pool) has(f family) bool {
	_, ok := p.shortest[f]
	return ok
}
