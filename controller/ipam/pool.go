package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

// A pool is a config.Pool and what is known of its use.
type pool struct {
	cfg    *config.Pool
	v4, v6 *stock
	// entries are the Services that hold addresses from this pool.
	entries []*entry
	// queues are the Services that wait for any address of this pool.
	queues [kinds]queue
	// sharers are, per sharing, the same Services once more: those that might
	// join an address.
	sharers map[sharing]*queue
}

func newPool(cfg *config.Pool) *pool {
	p := &pool{cfg: cfg, sharers: map[sharing]*queue{}}
	p.v4, p.v6 = p.newStocks()
	return p
}

func (p *pool) newStocks() (v4, v6 *stock) {
	var list4, list6 []netip.Prefix
	for _, prefix := range p.cfg.Prefixes {
		if prefix.Addr().Is4() {
			list4 = append(list4, prefix)
		} else {
			list6 = append(list6, prefix)
		}
	}
	return newStock(p, list4, p.cfg.AvoidBuggyIPs), newStock(p, list6, false)
}

// keepsHolder reports whether a Service that holds addresses of the pool may
// keep them. A serviceAllocation that cannot be read takes nothing away, since
// nobody knows that the pool stopped to admit the Service.
func (p *pool) keepsHolder(svc *service.Service, namespaces map[string]labels.Set) bool {
	return p.cfg.Pin != nil && p.cfg.Pin.Incomplete || p.admits(svc, namespaces)
}

// enlist notes that e holds addresses from p; nil is no pool.
func (p *pool) enlist(e *entry) {
	e.pool = p
	if p == nil {
		return
	}
	e.covered = true
	e.poolName = p.cfg.Name
	e.index = len(p.entries)
	p.entries = append(p.entries, e)
}

// delist is the inverse of enlist.
func (p *pool) delist(e *entry) {
	e.pool = nil
	if p == nil {
		return
	}
	n := len(p.entries) - 1
	last := p.entries[n]
	p.entries[e.index] = last
	last.index = e.index
	p.entries[n] = nil
	p.entries = p.entries[:n]
}

// admits reports whether the pool's serviceAllocation admits the Service.
// Selectors that match nothing admit nothing.
func (p *pool) admits(svc *service.Service, namespaces map[string]labels.Set) bool {
	return p.admitsNamespace(svc.Key.Namespace, namespaces) && p.admitsLabels(svc.Labels)
}

func (p *pool) admitsNamespace(name string, namespaces map[string]labels.Set) bool {
	pin := p.cfg.Pin
	if pin == nil || pin.AnyNamespace {
		return true
	}
	if _, ok := pin.Namespaces[name]; ok {
		return true
	}
	set, known := namespaces[name]
	return known && matchesAny(pin.NamespaceSelectors, set)
}

func (p *pool) admitsLabels(set labels.Set) bool {
	pin := p.cfg.Pin
	return pin == nil || len(pin.ServiceSelectors) == 0 || matchesAny(pin.ServiceSelectors, set)
}

func matchesAny(selectors []labels.Selector, set labels.Set) bool {
	return slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(set) })
}

// byPreference orders the pinned pools as automatic assignment tries them:
// positive priorities ascending, then all others; equals by name.
func byPreference(a, b *pool) int {
	pa, pb := a.cfg.Pin.Priority, b.cfg.Pin.Priority
	if (pa > 0) != (pb > 0) {
		return cmp.Compare(pb, pa)
	}
	if pa > 0 && pa != pb {
		return cmp.Compare(pa, pb)
	}
	return cmp.Compare(a.cfg.Name, b.cfg.Name)
}

// sameRanges reports whether two configurations of a pool hold the same
// addresses in the same order.
func sameRanges(a, b *config.Pool) bool {
	return a.AvoidBuggyIPs == b.AvoidBuggyIPs && slices.Equal(a.Prefixes, b.Prefixes)
}

// sameRules reports whether two configurations of a pool treat every Service
// alike.
func sameRules(a, b *config.Pool) bool {
	if a.AutoAssign != b.AutoAssign || a.Incomplete != b.Incomplete || (a.Pin == nil) != (b.Pin == nil) {
		return false
	}
	if a.Pin == nil {
		return true
	}
	return a.Pin.Incomplete == b.Pin.Incomplete && a.Pin.Priority == b.Pin.Priority && a.Pin.AnyNamespace == b.Pin.AnyNamespace &&
		maps.Equal(a.Pin.Namespaces, b.Pin.Namespaces) &&
		slices.EqualFunc(a.Pin.NamespaceSelectors, b.Pin.NamespaceSelectors, sameSelector) &&
		slices.EqualFunc(a.Pin.ServiceSelectors, b.Pin.ServiceSelectors, sameSelector)
}

// sameSelector compares by text, which is the same for a selector that matches
// nothing and one that matches everything.
func sameSelector(a, b labels.Selector) bool {
	_, some := a.Requirements()
	_, others := b.Requirements()
	return some == others && a.String() == b.String()
}

// A Usage says how much of a pool is in use. An address that several Services
// share counts once. A number too large for an int64 is the largest int64.
type Usage struct {
	Pool                         string
	Services                     int
	AssignedIPv4, AssignedIPv6   int64
	AvailableIPv4, AvailableIPv6 int64
	TotalIPv4, TotalIPv6         int64
}

func (p *pool) usage() Usage {
	return Usage{
		Pool:          p.cfg.Name,
		Services:      len(p.entries),
		AssignedIPv4:  int64(p.v4.held),
		AssignedIPv6:  int64(p.v6.held),
		AvailableIPv4: p.v4.available(),
		AvailableIPv6: p.v6.available(),
		TotalIPv4:     p.v4.total(),
		TotalIPv6:     p.v6.total(),
	}
}
