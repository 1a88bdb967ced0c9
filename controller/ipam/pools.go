package ipam

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/config"
)

// SetPools installs the compiled pools and returns the decisions that changed.
// Services whose pool did not change, and that lack nothing, are not looked at.
func (a *Allocator) SetPools(pools []*config.Pool) []Decision {
	affected := map[*entry]struct{}{}
	moved := a.compare(pools, affected)
	if moved == nil {
		return nil
	}
	maps.Copy(affected, a.unsettled)
	list := slices.Collect(maps.Keys(affected))
	// What is set aside and who waits is laid down anew once the stocks are.
	for _, e := range list {
		a.wait(e, waits{})
	}
	a.install(pools, moved)
	a.evaluate(list)
	return a.report(nil)
}

// compare returns the names of the pools whose addresses changed, or nil when
// no pool changed in any way that concerns addresses; it adds the Services
// that hold addresses from a changed pool to affected.
func (a *Allocator) compare(pools []*config.Pool, affected map[*entry]struct{}) map[string]bool {
	moved, any := map[string]bool{}, false
	seen := map[string]bool{}
	for _, cfg := range pools {
		seen[cfg.Name] = true
		p := a.pools[cfg.Name]
		switch {
		case p == nil:
			moved[cfg.Name] = true
		case !sameRanges(p.cfg, cfg):
			moved[cfg.Name] = true
			include(affected, p)
		case !sameRules(p.cfg, cfg):
			include(affected, p)
			any = true
		}
	}
	for name, p := range a.pools {
		if !seen[name] {
			moved[name] = true
			include(affected, p)
		}
	}
	if len(moved) == 0 && !any {
		return nil
	}
	return moved
}

func include(affected map[*entry]struct{}, p *pool) {
	for _, e := range p.entries {
		affected[e] = struct{}{}
	}
}

// install replaces the pools. The tenancies in pools whose addresses moved are
// lifted out of their old stocks and settled into the new.
func (a *Allocator) install(pools []*config.Pool, moved map[string]bool) {
	lifted := a.lift(moved)
	next := make(map[string]*pool, len(pools))
	for _, cfg := range pools {
		p := a.pools[cfg.Name]
		switch {
		case p == nil:
			p = newPool(cfg)
		case moved[cfg.Name]:
			p.cfg = cfg
			p.v4, p.v6 = p.newStocks()
		default:
			p.cfg = cfg
		}
		next[cfg.Name] = p
	}
	a.pools = next
	a.index()
	for _, addr := range lifted {
		t := a.tenancies[addr]
		t.stock, t.pos = a.lookup(addr)
		t.settleIn()
		for _, e := range t.tenants {
			a.claimPorts(t, e)
		}
	}
	a.touchedStocks = nil
}

// lift takes the tenancies in the named pools, and those in no pool, out of
// their stocks and returns their addresses.
func (a *Allocator) lift(moved map[string]bool) []netip.Addr {
	var lifted []netip.Addr
	take := func(e *entry) {
		for _, addr := range e.addrs {
			t := a.tenancies[addr]
			if t.stock != nil && !moved[t.stock.pool.cfg.Name] {
				continue
			}
			if t.tenants[0] != e {
				continue
			}
			lifted = append(lifted, addr)
			t.stock = nil
		}
	}
	for name := range moved {
		if p := a.pools[name]; p != nil {
			for _, e := range p.entries {
				take(e)
			}
		}
	}
	for e := range a.unsettled {
		if e.pool == nil {
			take(e)
		}
	}
	return lifted
}

// index lays down the routes and the orders in which pools are tried.
func (a *Allocator) index() {
	a.routes, a.pinned, a.unpinned = nil, nil, nil
	a.pinnedIn = map[string][]*pool{}
	for _, p := range a.pools {
		for _, s := range []*stock{p.v4, p.v6} {
			for i, sp := range s.spans {
				a.routes = append(a.routes, route{sp.prefix, s, i})
			}
		}
		switch {
		case !p.cfg.AutoAssign:
		case p.cfg.Pin != nil:
			a.pinned = append(a.pinned, p)
		default:
			a.unpinned = append(a.unpinned, p)
		}
	}
	slices.SortFunc(a.routes, func(x, y route) int { return x.prefix.Addr().Compare(y.prefix.Addr()) })
	slices.SortFunc(a.pinned, byPreference)
	slices.SortFunc(a.unpinned, func(x, y *pool) int { return cmp.Compare(x.cfg.Name, y.cfg.Name) })
}

// SetNamespace tells the Allocator of a namespace's labels and returns the
// decisions that changed.
func (a *Allocator) SetNamespace(name string, set labels.Set) []Decision {
	if old, known := a.namespaces[name]; known && maps.Equal(old, set) {
		return nil
	}
	a.namespaces[name] = set
	return a.reviseNamespace(name)
}

// DeleteNamespace tells the Allocator that a namespace is gone.
func (a *Allocator) DeleteNamespace(name string) []Decision {
	delete(a.namespaces, name)
	return a.reviseNamespace(name)
}

func (a *Allocator) reviseNamespace(name string) []Decision {
	delete(a.pinnedIn, name)
	selected := func(p *pool) bool { return p.cfg.Pin != nil && len(p.cfg.Pin.NamespaceSelectors) > 0 }
	for _, p := range a.pools {
		if selected(p) {
			a.evaluate(slices.Collect(maps.Values(a.entries[name])))
			return a.report(nil)
		}
	}
	return nil
}
