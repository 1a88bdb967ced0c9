package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// converge brings one Service to its decision and notes whether it changed.
func (a *Allocator) converge(e *entry) {
	d := a.decide(e)
	if d.Reason == reason.Assigned {
		delete(a.unsettled, e)
	} else {
		a.unsettled[e] = struct{}{}
	}
	old := e.decision
	e.decision = d
	if !e.changed && (old.Reason != d.Reason || old.Message != d.Message || old.Pool != d.Pool ||
		!slices.Equal(old.Addresses, d.Addresses) || e.lost != nil) {
		e.changed = true
		a.changed = append(a.changed, e)
	}
}

// decide applies the rules, in order: what the Service holds and may keep,
// whether it asks for something else, and what it lacks.
func (a *Allocator) decide(e *entry) Decision {
	svc := e.svc
	need, no := needOf(svc)
	if no != nil {
		a.drop(e, no)
		return a.refuse(e, no, waits{})
	}
	a.keep(e, need)
	if len(e.addrs) > 0 && svc.WantPool != "" && svc.WantPool != e.poolName {
		a.drop(e, &Refusal{reason.RequestChanged, fmt.Sprintf("the Service now asks for pool %q, and its address is from pool %q", svc.WantPool, e.poolName)})
	}
	if no := unreadable(svc); no != nil {
		// Nobody knows what is wanted, so what is there stays.
		return a.refuse(e, no, waits{})
	}
	if len(svc.WantAddresses) > 0 {
		return a.decideByName(e, need)
	}
	if len(e.addrs) > 0 {
		if d, ok := a.complete(e, need); ok {
			return d
		}
	}
	return a.decideAny(e, need)
}

// decideByName serves a Service that asks for addresses by name.
func (a *Allocator) decideByName(e *entry, need need) Decision {
	want := e.svc.WantAddresses
	if sameAddrs(e.addrs, want) {
		// The request says the order too.
		e.addrs = want
		return a.assigned(e)
	}
	a.drop(e, &Refusal{reason.RequestChanged, "the Service now asks for " + list(want)})
	p, no := a.target(e.svc, need)
	if no != nil {
		return a.refuse(e, no, waits{})
	}
	for _, addr := range want {
		if no := a.conflict(e, addr); no != nil {
			return a.refuse(e, no, waits{addrs: want})
		}
	}
	a.wait(e, waits{})
	a.attach(e, want, p)
	return a.assigned(e)
}

// target returns the pool of the addresses that a Service asks for by name, or
// why it may not have them, whoever holds them.
func (a *Allocator) target(svc *service.Service, need need) (*pool, *Refusal) {
	want := svc.WantAddresses
	if !need.exactly(want) {
		return nil, &Refusal{reason.FamilyMismatch, fmt.Sprintf("the Service asks for %s, but its cluster IPs are %s: ask for one address of each of their families", list(want), list(svc.ClusterIPs))}
	}
	p := a.poolOf(want)
	if p == nil {
		for _, addr := range want {
			if s, _ := a.lookup(addr); s == nil {
				return nil, &Refusal{reason.AddressNotInPool, fmt.Sprintf("the requested address %s is in no pool", addr)}
			}
		}
		return nil, &Refusal{reason.PoolMismatch, fmt.Sprintf("the requested addresses %s are not in one pool", list(want))}
	}
	if svc.WantPool != "" && svc.WantPool != p.cfg.Name {
		return nil, &Refusal{reason.PoolMismatch, fmt.Sprintf("the Service asks for pool %q, but also for %s, which is in pool %q", svc.WantPool, list(want), p.cfg.Name)}
	}
	if !p.admits(svc, a.namespaces) {
		return nil, notAdmitted(p, svc)
	}
	return p, nil
}

// setAside has the addresses that a Service without them asks for by name kept
// from automatic assignment, if it might ever get them.
func (a *Allocator) setAside(e *entry) {
	want := e.svc.WantAddresses
	need, no := needOf(e.svc)
	if no != nil || len(want) == 0 || unreadable(e.svc) != nil || sameAddrs(want, e.addrs) {
		return
	}
	if _, no := a.target(e.svc, need); no == nil {
		a.wait(e, waits{addrs: want})
	}
}

// complete looks for the second address of a Service that holds one and wants
// two. It is false when the Service must look for a new pair, having nothing.
func (a *Allocator) complete(e *entry, need need) (Decision, bool) {
	if !need.both() || len(e.addrs) == 2 {
		return a.assigned(e), true
	}
	if e.pool == nil {
		// The address outlives its pool for now; there is no pool to add from.
		return a.assigned(e), true
	}
	st, kind, missing := e.pool.v6, second6, "IPv6"
	if e.addrs[0].Is6() {
		st, kind, missing = e.pool.v4, second4, "IPv4"
	}
	if addr, ok := a.pick(st, e.svc); ok {
		a.wait(e, waits{})
		a.join(e, addr)
		return a.assigned(e), true
	}
	if need.prefer {
		if e.lost != nil && a.movePair(e) {
			return a.assigned(e), true
		}
		no := &Refusal{reason.OneFamilyOnly, fmt.Sprintf("the Service prefers dual stack; pool %q has no free %s address", e.pool.cfg.Name, missing)}
		return a.refuse(e, no, waits{pools: []*pool{e.pool}, kind: kind, sharing: sharingOf(e.svc)}), true
	}
	a.drop(e, &Refusal{reason.FamilyMismatch, fmt.Sprintf("the Service requires dual stack; it held %s, and pool %q has no free %s address", e.addrs[0], e.pool.cfg.Name, missing)})
	return Decision{}, false
}

// movePair gives a Service that just lost one address of a pair a new pair from
// another pool, if there is one.
func (a *Allocator) movePair(e *entry) bool {
	if e.svc.WantPool != "" {
		return false
	}
	for _, p := range slices.Concat(a.pinnedFor(e.svc), a.unpinned) {
		a4, ok4 := a.pick(p.v4, e.svc)
		a6, ok6 := a.pick(p.v6, e.svc)
		if ok4 && ok6 {
			a.detach(e)
			return a.settleOn(e, p, a4, a6)
		}
	}
	return false
}

// join adds a second address to what the Service holds, IPv4 first.
func (a *Allocator) join(e *entry, addr netip.Addr) {
	pair, p := []netip.Addr{e.addrs[0], addr}, e.pool
	if addr.Is4() {
		slices.Reverse(pair)
	}
	a.detach(e)
	a.attach(e, pair, p)
}

// decideAny serves a Service without addresses that takes any address of the
// pool it names, or of any pool.
func (a *Allocator) decideAny(e *entry, need need) Decision {
	svc := e.svc
	if len(e.waits.addrs) > 0 {
		// It no longer asks by name: nothing is set aside for it.
		a.wait(e, waits{})
	}
	if len(a.pools) == 0 {
		return a.refuse(e, &Refusal{reason.NoPools, "there is no usable IPAddressPool"}, waits{})
	}
	var tried []*pool
	if svc.WantPool != "" {
		p := a.pools[svc.WantPool]
		if p == nil {
			return a.refuse(e, &Refusal{reason.PoolUnknown, fmt.Sprintf("the Service asks for pool %q, which does not exist", svc.WantPool)}, waits{})
		}
		if !p.admits(svc, a.namespaces) {
			return a.refuse(e, notAdmitted(p, svc), waits{})
		}
		tried = []*pool{p}
		if a.choose(e, tried, need) {
			return a.chosen(e, need)
		}
	} else {
		pinned := a.pinnedFor(svc)
		if a.choose(e, pinned, need) || a.choose(e, a.unpinned, need) {
			return a.chosen(e, need)
		}
		tried = slices.Concat(pinned, a.unpinned)
	}
	if len(tried) == 0 {
		return a.refuse(e, &Refusal{reason.NoPoolForService, "no pool with autoAssign admits Service " + svc.Key.String()}, waits{})
	}
	sh := sharingOf(svc)
	return a.refuse(e, exhausted(tried, need), waits{pools: tried, kind: need.kind(sh), sharing: sh})
}

// chosen is the decision after a successful choose.
func (a *Allocator) chosen(e *entry, need need) Decision {
	d, _ := a.complete(e, need)
	return d
}

// choose gives the Service the first addresses that serve its need, all from
// one pool. A Service that merely prefers a pair passes over pools that have
// only one family, and comes back to them when no pool has both.
func (a *Allocator) choose(e *entry, pools []*pool, need need) bool {
	var one4, one6 netip.Addr
	var pool4, pool6 *pool
	for _, p := range pools {
		var a4, a6 netip.Addr
		var ok4, ok6 bool
		if need.v4 {
			a4, ok4 = a.pick(p.v4, e.svc)
		}
		if need.v6 {
			a6, ok6 = a.pick(p.v6, e.svc)
		}
		switch {
		case ok4 && ok6:
			return a.settleOn(e, p, a4, a6)
		case ok4 && !need.v6:
			return a.settleOn(e, p, a4)
		case ok6 && !need.v4:
			return a.settleOn(e, p, a6)
		}
		if ok4 && pool4 == nil {
			one4, pool4 = a4, p
		}
		if ok6 && pool6 == nil {
			one6, pool6 = a6, p
		}
	}
	switch {
	case !need.prefer || pool4 == nil && pool6 == nil:
		return false
	case pool4 == nil || need.v6First && pool6 != nil:
		return a.settleOn(e, pool6, one6)
	}
	return a.settleOn(e, pool4, one4)
}

func (a *Allocator) settleOn(e *entry, p *pool, addrs ...netip.Addr) bool {
	a.wait(e, waits{})
	a.attach(e, addrs, p)
	return true
}

func (a *Allocator) pick(s *stock, svc *service.Service) (netip.Addr, bool) {
	return s.pick(sharingOf(svc), svc.Ports, a.asides)
}

// pinnedFor returns the pinned pools that may serve the Service unasked.
func (a *Allocator) pinnedFor(svc *service.Service) []*pool {
	if len(a.pinned) == 0 {
		return nil
	}
	ns := svc.Key.Namespace
	pools, known := a.pinnedIn[ns]
	if !known {
		for _, p := range a.pinned {
			if p.admitsNamespace(ns, a.namespaces) {
				pools = append(pools, p)
			}
		}
		a.pinnedIn[ns] = pools
	}
	admits := func(p *pool) bool { return p.admitsLabels(svc.Labels) }
	if i := slices.IndexFunc(pools, func(p *pool) bool { return !admits(p) }); i < 0 {
		return pools
	}
	var some []*pool
	for _, p := range pools {
		if admits(p) {
			some = append(some, p)
		}
	}
	return some
}

// assigned is the decision for a Service that has all it wants; or, where its
// addresses outlive their pool (see outlives), for one that keeps them for now.
func (a *Allocator) assigned(e *entry) Decision {
	a.wait(e, waits{})
	d := Decision{Service: e.svc, Addresses: e.addrs, Pool: e.poolName, Reason: reason.Assigned}
	switch {
	case e.pool != nil:
	case e.poolName == "":
		d.Reason = reason.PoolMissing
		d.Message = fmt.Sprintf("no pool is known that holds %s for the Service, which keeps it for now", list(e.addrs))
	default:
		d.Reason = reason.PoolMissing
		d.Message = fmt.Sprintf("%s is from pool %q, which is missing, can be used in part only, or is not known to admit the Service; the Service keeps it for now", list(e.addrs), e.poolName)
	}
	return d
}

// refuse is the decision for a Service that lacks something. It has what it
// still holds, and waits for w.
func (a *Allocator) refuse(e *entry, no *Refusal, w waits) Decision {
	a.wait(e, w)
	d := Decision{Service: e.svc, Addresses: e.addrs, Reason: no.Reason, Message: no.Message}
	if len(e.addrs) > 0 {
		d.Pool = e.poolName
	}
	return d
}

// drop takes away what the Service holds, if anything.
func (a *Allocator) drop(e *entry, why *Refusal) {
	if len(e.addrs) > 0 {
		a.detach(e)
		e.lost = why
	}
}

// keep checks what the Service holds and drops it if it may no longer be held.
// If the status says something else, put there by a former life of the
// controller or by a person, and the Service may hold that, it is adopted.
func (a *Allocator) keep(e *entry, need need) {
	svc := e.svc
	if e.unread {
		e.unread = false
		if status := svc.Addresses; len(status) > 0 && !subset(status, e.addrs) &&
			(len(e.addrs) == 0 || !sameAddrs(e.addrs, svc.WantAddresses)) {
			if len(e.addrs) == 0 {
				e.lost = a.takeAny(e, status, need)
				return
			}
			if a.take(e, status, need) == nil {
				return
			}
		}
	}
	if len(e.addrs) > 0 {
		held := e.addrs
		if no := a.takeAny(e, held, need); no != nil {
			if sameAddrs(e.addrs, held) {
				a.drop(e, no)
			}
			e.lost = no
		}
	}
}

// takeAny is take, but a Service that merely prefers a pair is left with one of
// two addresses where it may not hold both. It then still says why.
func (a *Allocator) takeAny(e *entry, addrs []netip.Addr, need need) *Refusal {
	no := a.take(e, addrs, need)
	if no == nil || !need.prefer || len(addrs) < 2 {
		return no
	}
	for i := range addrs {
		if a.take(e, addrs[i:i+1], need) == nil {
			return no
		}
	}
	return no
}

// take makes the Service hold exactly those of the addresses that it needs, or
// says why it may not and changes nothing.
func (a *Allocator) take(e *entry, addrs []netip.Addr, need need) *Refusal {
	svc := e.svc
	keep := need.wanted(addrs)
	if len(keep) == 0 {
		return &Refusal{reason.FamilyMismatch, fmt.Sprintf("%s does not fit the Service's cluster IPs %s", list(addrs), list(svc.ClusterIPs))}
	}
	p := a.poolOf(keep)
	if p == nil || !p.keepsHolder(svc, a.namespaces) {
		switch {
		case a.outlives(e, p):
			p = nil
		case p == nil:
			return &Refusal{reason.AddressNotInPool, "no pool holds " + list(keep)}
		default:
			return notAdmitted(p, svc)
		}
	}
	if slices.Equal(keep, e.addrs) && e.sharing == sharingOf(svc) && slices.Equal(e.ports, svc.Ports) {
		if p != e.pool {
			a.rehouse(e, p)
		}
		return nil
	}
	for _, addr := range keep {
		if no := a.conflict(e, addr); no != nil {
			return no
		}
	}
	if e.poolName == "" {
		e.poolName = svc.Pool
	}
	a.detach(e)
	a.attach(e, keep, p)
	return nil
}

// rehouse follows the addresses of a Service into another pool, or none.
func (a *Allocator) rehouse(e *entry, p *pool) {
	e.pool.delist(e)
	p.enlist(e)
}

// outlives reports whether a Service keeps an address that no pool holds, or
// that lies in a pool p that does not admit the Service. It does in the grace
// after a start, as long as no pool was seen that would give it the address:
// pools and namespaces may be known later than Services. And it does while
// another pool, from which it has the address, is Incomplete.
func (a *Allocator) outlives(e *entry, p *pool) bool {
	if a.grace && !e.covered {
		return true
	}
	name := e.poolName
	if name == "" {
		name = e.svc.Pool
	}
	from := a.pools[name]
	return from != nil && from != p && from.cfg.Incomplete
}

// unreadable returns the first request of the Service that cannot be understood.
func unreadable(svc *service.Service) *Refusal {
	for _, p := range svc.Problems {
		if p.Reason == reason.InvalidRequest {
			return &Refusal{p.Reason, p.Field + ": " + p.Message}
		}
	}
	return nil
}

func notAdmitted(p *pool, svc *service.Service) *Refusal {
	return &Refusal{reason.PoolNotAllowed, fmt.Sprintf("serviceAllocation of pool %q does not admit Service %s", p.cfg.Name, svc.Key)}
}

// exhausted explains why none of the pools had anything for the need.
func exhausted(pools []*pool, need need) *Refusal {
	serves := func(p *pool) bool {
		v4, v6 := need.v4 && !p.v4.empty(), need.v6 && !p.v6.empty()
		if need.both() && !need.prefer {
			return v4 && v6
		}
		return v4 || v6
	}
	if !slices.ContainsFunc(pools, serves) {
		return &Refusal{reason.FamilyNotInPool, fmt.Sprintf("%s cannot give an %s address", poolNames(pools), need)}
	}
	return &Refusal{reason.PoolExhausted, fmt.Sprintf("%s: no free %s address", poolNames(pools), need)}
}

// poolNames names a few pools; a sentence with hundreds helps nobody.
func poolNames(pools []*pool) string {
	const few = 5
	names := make([]string, 0, few)
	for _, p := range pools[:min(few, len(pools))] {
		names = append(names, fmt.Sprintf("%q", p.cfg.Name))
	}
	switch s := strings.Join(names, ", "); {
	case len(pools) == 1:
		return "pool " + s
	case len(pools) > few:
		return fmt.Sprintf("pools %s and %d more", s, len(pools)-few)
	default:
		return "pools " + s
	}
}

func list(addrs []netip.Addr) string {
	if len(addrs) == 1 {
		return addrs[0].String()
	}
	names := make([]string, len(addrs))
	for i, addr := range addrs {
		names[i] = addr.String()
	}
	return strings.Join(names, " and ")
}
