package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// A tenancy is an address that Services hold. Its tenants agree on the
// sharing; a lone tenant may change it.
type tenancy struct {
	// stock and pos say where the address lies; stock is nil for an address
	// that no pool holds.
	stock   *stock
	pos     u128
	sharing sharing
	tenants []*entry
	// alone is room for one tenant, the common case.
	alone [1]*entry
	// ports is who uses which port, kept only where there is a sharing key.
	ports map[service.Port]*entry
}

// lookup returns where an address lies; nil when no pool holds it.
func (a *Allocator) lookup(addr netip.Addr) (*stock, u128) {
	i, found := slices.BinarySearchFunc(a.routes, addr, func(r route, addr netip.Addr) int {
		return r.prefix.Addr().Compare(addr)
	})
	if !found {
		i--
	}
	if i < 0 || !a.routes[i].prefix.Contains(addr) {
		return nil, u128{}
	}
	s := a.routes[i].stock
	pos, ok := s.spans[a.routes[i].span].position(addr)
	if !ok {
		return nil, u128{}
	}
	return s, pos
}

// poolOf returns the pool that holds all the addresses, or nil.
func (a *Allocator) poolOf(addrs []netip.Addr) *pool {
	var p *pool
	for _, addr := range addrs {
		s, _ := a.lookup(addr)
		if s == nil || p != nil && s.pool != p {
			return nil
		}
		p = s.pool
	}
	return p
}

func sharingOf(svc *service.Service) sharing {
	if svc.SharingKey == "" {
		return sharing{}
	}
	return sharing{svc.SharingKey, svc.BackendKey}
}

// conflict says why the Service may not hold the address beside those that
// hold it already; nil when it may.
func (a *Allocator) conflict(e *entry, addr netip.Addr) *Refusal {
	t := a.tenancies[addr]
	if t == nil {
		return nil
	}
	i := slices.IndexFunc(t.tenants, func(other *entry) bool { return other != e })
	if i < 0 {
		return nil
	}
	other := t.tenants[i]
	sh := sharingOf(e.svc)
	switch {
	case t.sharing.key == "" || sh.key == "":
		return &Refusal{reason.AddressInUse, fmt.Sprintf("%s belongs to Service %s, and %s", addr, other.svc.Key, whoDoesNotShare(t.sharing, sh))}
	case t.sharing.key != sh.key:
		return &Refusal{reason.SharingConflict, fmt.Sprintf("%s is shared by Service %s under the key %q, not %q", addr, other.svc.Key, t.sharing.key, sh.key)}
	case t.sharing.backend != sh.backend:
		return &Refusal{reason.SharingConflict, fmt.Sprintf("%s is shared by Service %s, whose externalTrafficPolicy or selector differs", addr, other.svc.Key)}
	}
	for _, p := range e.svc.Ports {
		if user := t.ports[p]; user != nil && user != e {
			return &Refusal{reason.PortConflict, fmt.Sprintf("port %d/%s of %s is in use by Service %s", p.Port, p.Protocol, addr, user.svc.Key)}
		}
	}
	return nil
}

func whoDoesNotShare(held, wants sharing) string {
	switch {
	case held.key == "" && wants.key == "":
		return "neither carries a sharing key"
	case held.key == "":
		return "that Service carries no sharing key"
	}
	return "this Service carries no sharing key"
}

// attach makes the Service a tenant of addresses that do not conflict; p is
// their pool, nil when none holds them all.
func (a *Allocator) attach(e *entry, addrs []netip.Addr, p *pool) {
	e.addrs = addrs
	e.sharing, e.ports = sharingOf(e.svc), e.svc.Ports
	p.enlist(e)
	for _, addr := range addrs {
		t := a.tenancies[addr]
		if t == nil {
			t = &tenancy{sharing: e.sharing}
			t.tenants = t.alone[:0]
			a.tenancies[addr] = t
			t.stock, t.pos = a.lookup(addr)
			t.settleIn()
		}
		t.tenants = append(t.tenants, e)
		a.claimPorts(t, e)
		a.touchAddr(addr)
	}
}

// detach ends what the Service holds.
func (a *Allocator) detach(e *entry) {
	for _, addr := range e.addrs {
		t := a.tenancies[addr]
		t.tenants = slices.DeleteFunc(t.tenants, func(other *entry) bool { return other == e })
		a.freePorts(t, e)
		if len(t.tenants) == 0 {
			delete(a.tenancies, addr)
			t.moveOut(a.asides[addr] != nil)
			a.touchStock(t.stock)
		}
		a.touchAddr(addr)
	}
	e.pool.delist(e)
	e.addrs, e.ports, e.sharing = nil, nil, sharing{}
}

// settleIn counts the address as held.
func (t *tenancy) settleIn() {
	s := t.stock
	if s == nil {
		return
	}
	s.held++
	s.taken.add(t.pos)
	if t.sharing.key == "" {
		return
	}
	c := s.shared[t.sharing]
	if c == nil {
		c = &commons{all: newSet(s.last), ports: map[service.Port]*set{}}
		if s.shared == nil {
			s.shared = map[sharing]*commons{}
		}
		s.shared[t.sharing] = c
	}
	c.all.add(t.pos)
}

// moveOut is the inverse of settleIn for an address whose ports are free; the
// address stays taken if it is set aside.
func (t *tenancy) moveOut(aside bool) {
	s := t.stock
	if s == nil {
		return
	}
	s.held--
	if !aside {
		s.taken.remove(t.pos)
	}
	if c := s.shared[t.sharing]; c != nil && t.sharing.key != "" {
		c.all.remove(t.pos)
		if c.all.len() == 0 {
			delete(s.shared, t.sharing)
		}
	}
}

func (a *Allocator) claimPorts(t *tenancy, e *entry) {
	if t.sharing.key == "" {
		return
	}
	if t.ports == nil {
		t.ports = map[service.Port]*entry{}
	}
	for _, p := range e.ports {
		t.ports[p] = e
		if t.stock != nil {
			t.stock.shared[t.sharing].use(p, t.pos)
		}
	}
	a.touchCommons(t)
}

func (a *Allocator) freePorts(t *tenancy, e *entry) {
	if t.sharing.key == "" {
		return
	}
	for _, p := range e.ports {
		delete(t.ports, p)
		if t.stock != nil {
			t.stock.shared[t.sharing].disuse(p, t.pos)
		}
	}
	a.touchCommons(t)
}

func (c *commons) use(p service.Port, pos u128) {
	used := c.ports[p]
	if used == nil {
		used = &set{levels: c.all.levels}
		c.ports[p] = used
	}
	used.add(pos)
}

func (c *commons) disuse(p service.Port, pos u128) {
	if used := c.ports[p]; used != nil {
		used.remove(pos)
		if used.len() == 0 {
			delete(c.ports, p)
		}
	}
}
