package ipam

import (
	"net/netip"
	"slices"
)

// waits says what a Service waits for. A Service that waits for any address
// stands in the queues of all pools that may give it one; a Service that asks
// by name has those addresses set aside.
type waits struct {
	pools   []*pool
	kind    kind
	sharing sharing
	addrs   []netip.Addr
}

func (w waits) equal(v waits) bool {
	return w.kind == v.kind && w.sharing == v.sharing &&
		slices.Equal(w.pools, v.pools) && slices.Equal(w.addrs, v.addrs)
}

// A kind of waiting: Services of one kind in one queue are alike in what a
// free address does for them, so only the first of them needs to be asked.
type kind uint8

const (
	// one address of that family, from nothing
	need4 kind = iota
	need6
	// two, and not one; the shared kind may join an address for either
	needBoth
	needBothShared
	// two if possible, else one
	needPrefer
	// the other family for a Service that has one
	second4
	second6
	kinds
)

// A queue is the waiting Services by age.
type queue struct{ list []*entry }

func (q *queue) insert(e *entry) {
	// Most come in order of age.
	if n := len(q.list); n == 0 || byAge(q.list[n-1], e) < 0 {
		q.list = append(q.list, e)
		return
	}
	if i, found := slices.BinarySearchFunc(q.list, e, byAge); !found {
		q.list = slices.Insert(q.list, i, e)
	}
}

func (q *queue) remove(e *entry) {
	i, found := slices.BinarySearchFunc(q.list, e, byAge)
	switch {
	case !found:
	case i == 0:
		q.list[0] = nil
		q.list = q.list[1:]
	default:
		q.list = slices.Delete(q.list, i, i+1)
	}
}

func (q *queue) empty() bool { return q == nil || len(q.list) == 0 }

// wait makes e wait for w, which may be nothing.
func (a *Allocator) wait(e *entry, w waits) {
	if e.waits.equal(w) {
		return
	}
	old := e.waits
	e.waits = w
	for _, p := range old.pools {
		p.queues[old.kind].remove(e)
		if q := p.sharers[old.sharing]; q != nil {
			q.remove(e)
			if q.empty() {
				delete(p.sharers, old.sharing)
			}
		}
	}
	for _, addr := range old.addrs {
		a.releaseAside(e, addr)
	}
	for _, p := range w.pools {
		p.queues[w.kind].insert(e)
		if w.sharing.key != "" {
			q := p.sharers[w.sharing]
			if q == nil {
				q = &queue{}
				p.sharers[w.sharing] = q
			}
			q.insert(e)
		}
	}
	for _, addr := range w.addrs {
		q := a.asides[addr]
		if q == nil {
			q = &queue{}
			a.asides[addr] = q
			if s, pos := a.lookup(addr); s != nil {
				s.taken.add(pos)
			}
		}
		q.insert(e)
	}
}

func (a *Allocator) releaseAside(e *entry, addr netip.Addr) {
	q := a.asides[addr]
	q.remove(e)
	if !q.empty() {
		return
	}
	delete(a.asides, addr)
	if s, pos := a.lookup(addr); s != nil && a.tenancies[addr] == nil {
		s.taken.remove(pos)
		a.touchStock(s)
	}
}

func (a *Allocator) touchStock(s *stock) {
	if s != nil && !s.touched {
		s.touched = true
		a.touchedStocks = append(a.touchedStocks, s)
	}
}

func (a *Allocator) touchAddr(addr netip.Addr) {
	if a.asides[addr] != nil {
		a.touchedAddrs = append(a.touchedAddrs, addr)
	}
}

func (a *Allocator) touchCommons(t *tenancy) {
	if t.stock != nil && t.stock.pool.sharers[t.sharing] != nil {
		a.touchedCommons = append(a.touchedCommons, commonsRef{t.stock.pool, t.sharing})
	}
}

// settle serves those who wait for what the current call has freed: first who
// asks for an address by name, then who may join a shared one, then who takes
// any. It ends because only a Service that waited and now holds touches
// anything again.
func (a *Allocator) settle() {
	for {
		switch {
		case len(a.touchedAddrs) > 0:
			addr := a.touchedAddrs[0]
			a.touchedAddrs = a.touchedAddrs[1:]
			if q := a.asides[addr]; q != nil {
				a.convergeAll(q)
			}
		case len(a.touchedCommons) > 0:
			ref := a.touchedCommons[0]
			a.touchedCommons = a.touchedCommons[1:]
			if q := ref.pool.sharers[ref.sharing]; q != nil {
				a.convergeAll(q)
			}
		case len(a.touchedStocks) > 0:
			s := a.touchedStocks[0]
			a.touchedStocks = a.touchedStocks[1:]
			s.touched = false
			a.serve(s)
		default:
			a.touchedAddrs, a.touchedCommons, a.touchedStocks = nil, nil, nil
			return
		}
	}
}

func (a *Allocator) convergeAll(q *queue) {
	for _, e := range slices.Clone(q.list) {
		a.converge(e)
	}
}

// serve gives the free addresses of a stock to those who wait, oldest first.
func (a *Allocator) serve(s *stock) {
	for {
		if _, ok := s.firstFree(); !ok {
			return
		}
		e := a.nextWaiter(s)
		if e == nil {
			return
		}
		before := e.waits
		a.converge(e)
		if before.equal(e.waits) {
			return
		}
	}
}

// nextWaiter returns the oldest Service that a free address in s serves. Who
// has no address at all comes before who wants a second one.
func (a *Allocator) nextWaiter(s *stock) *entry {
	p := s.pool
	single, second, other := need4, second4, p.v6
	if s == p.v6 {
		single, second, other = need6, second6, p.v4
	}
	oldest := p.queues[single].older(p.queues[needPrefer].older(nil))
	if _, ok := other.firstFree(); ok {
		oldest = p.queues[needBoth].older(p.queues[needBothShared].older(oldest))
	} else {
		for _, e := range p.queues[needBothShared].list {
			if oldest != nil && byAge(oldest, e) < 0 {
				break
			}
			if _, ok := a.pick(other, e.svc); ok {
				oldest = e
				break
			}
		}
	}
	if oldest != nil {
		return oldest
	}
	return p.queues[second].older(nil)
}

// older returns the first of the queue if it is older than e, or e.
func (q *queue) older(e *entry) *entry {
	if q.empty() || e != nil && byAge(e, q.list[0]) < 0 {
		return e
	}
	return q.list[0]
}
