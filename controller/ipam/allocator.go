package ipam

import (
	"cmp"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// A Decision is the Allocator's answer for one Service.
type Decision struct {
	// Service is the Service as the Allocator was last told of it.
	Service *service.Service
	// Addresses are the Service's addresses in the order of its status, empty
	// when it has none. A pair that the Allocator chose is IPv4 first; one that
	// the Service asked for keeps the order of the request.
	Addresses []netip.Addr
	// Pool is the pool of the addresses.
	Pool string
	// Reason is reason.Assigned, or why the Service lacks something; Message
	// then says it in a sentence.
	Reason  reason.Reason
	Message string
	// Lost says why addresses that the Service had were taken away by this
	// decision; nil when none were.
	Lost *Refusal
}

// A Refusal is a "no".
type Refusal struct {
	Reason  reason.Reason
	Message string
}

// An Allocator knows the pools and who holds which address. It belongs to one
// goroutine.
//
// A new Allocator is in its grace: from a Service that it adopted it takes no
// address away because of a pool or a namespace as it is known so far, until
// they once agreed that the Service may have it. EndGrace ends that.
type Allocator struct {
	pools map[string]*pool
	// routes leads from an address to its stock; sorted, never overlapping.
	routes []route
	// pinned and unpinned are the pools for automatic assignment in the order
	// in which they are tried, pinnedIn the pinned ones of a namespace as far
	// as somebody asked.
	pinned, unpinned []*pool
	pinnedIn         map[string][]*pool
	namespaces       map[string]labels.Set

	// entries are the Services by namespace and name.
	entries map[string]map[string]*entry
	// unsettled are the entries that lack something: a change of the
	// configuration concerns all of them.
	unsettled map[*entry]struct{}
	tenancies map[netip.Addr]*tenancy
	// asides are the addresses that waiting Services ask for by name.
	asides map[netip.Addr]*queue
	grace  bool

	// What the current call has touched and must still look at.
	touchedStocks  []*stock
	touchedAddrs   []netip.Addr
	touchedCommons []commonsRef
	changed        []*entry
}

type route struct {
	prefix netip.Prefix
	stock  *stock
	span   int
}

type commonsRef struct {
	pool    *pool
	sharing sharing
}

// An entry is one Service that the Allocator serves.
type entry struct {
	svc *service.Service
	// unread is true until the addresses in the Service's status were looked at.
	unread bool

	// What the Service holds, and the terms on which it does.
	addrs []netip.Addr
	pool  *pool
	// index is the entry's place in its pool's list.
	index   int
	sharing sharing
	ports   []service.Port
	// covered is true once a pool held the Service's addresses; from then on
	// the loss of that pool is a fact and not perhaps ignorance.
	covered bool
	// poolName is the last pool that the addresses came from.
	poolName string

	waits    waits
	decision Decision
	lost     *Refusal
	changed  bool
}

// New returns an Allocator that knows no pool and no Service.
func New() *Allocator {
	return &Allocator{
		pools:      map[string]*pool{},
		pinnedIn:   map[string][]*pool{},
		namespaces: map[string]labels.Set{},
		entries:    map[string]map[string]*entry{},
		unsettled:  map[*entry]struct{}{},
		tenancies:  map[netip.Addr]*tenancy{},
		asides:     map[netip.Addr]*queue{},
		grace:      true,
	}
}

// Assign tells the Allocator of a Service that it shall serve, for the first
// time or again, and returns the decision for it, followed by those for other
// Services that changed as a consequence.
func (a *Allocator) Assign(svc *service.Service) []Decision {
	e := a.entry(svc)
	a.converge(e)
	a.settle()
	return a.report(e)
}

// Adopt tells the Allocator of many Services at once. All that validly hold
// addresses by their status keep them, and all that ask for an address by name
// have it set aside, before any Service gets an address; then they are served
// by age. It returns the decisions that are new or changed.
func (a *Allocator) Adopt(svcs []*service.Service) []Decision {
	list := make([]*entry, len(svcs))
	for i, svc := range svcs {
		list[i] = a.entry(svc)
	}
	a.evaluate(list)
	return a.report(nil)
}

// Release forgets a Service: it is gone, or is no longer to be served. It
// returns the decisions for other Services that changed as a consequence.
func (a *Allocator) Release(key service.Key) []Decision {
	if e := a.lookupEntry(key); e != nil {
		a.forget(e)
		a.settle()
	}
	return a.report(nil)
}

// EndGrace ends the time in which an address outlives a pool that has not been
// seen, and returns the decisions that changed.
func (a *Allocator) EndGrace() []Decision {
	if !a.grace {
		return nil
	}
	a.grace = false
	a.evaluate(a.lacking())
	return a.report(nil)
}

// Decision returns the current decision for a Service; false when the
// Allocator does not serve it.
func (a *Allocator) Decision(key service.Key) (Decision, bool) {
	e := a.lookupEntry(key)
	if e == nil {
		return Decision{}, false
	}
	return e.decision, true
}

// Usage returns how much of each pool is in use, in name order.
func (a *Allocator) Usage() []Usage {
	list := make([]Usage, 0, len(a.pools))
	for _, p := range a.pools {
		list = append(list, p.usage())
	}
	slices.SortFunc(list, func(a, b Usage) int { return cmp.Compare(a.Pool, b.Pool) })
	return list
}

func (a *Allocator) lookupEntry(key service.Key) *entry {
	return a.entries[key.Namespace][key.Name]
}

// entry returns the entry of a Service, brought up to svc.
func (a *Allocator) entry(svc *service.Service) *entry {
	e := a.lookupEntry(svc.Key)
	if e != nil && (e.svc.UID != svc.UID || !e.svc.Created.Equal(svc.Created)) {
		// Another Service of the same name: its predecessor is gone.
		a.forget(e)
		e = nil
	}
	if e == nil {
		e = &entry{}
		ns := a.entries[svc.Key.Namespace]
		if ns == nil {
			ns = map[string]*entry{}
			a.entries[svc.Key.Namespace] = ns
		}
		ns[svc.Key.Name] = e
	}
	e.svc = svc
	e.unread = true
	return e
}

func (a *Allocator) forget(e *entry) {
	a.wait(e, waits{})
	a.detach(e)
	key := e.svc.Key
	delete(a.unsettled, e)
	delete(a.entries[key.Namespace], key.Name)
	if len(a.entries[key.Namespace]) == 0 {
		delete(a.entries, key.Namespace)
	}
}

// evaluate brings many entries to their decisions: first everybody's holding
// is checked, so that what is free is known, then requests by name are set
// aside, then all are served by age.
func (a *Allocator) evaluate(list []*entry) {
	slices.SortFunc(list, byAge)
	for _, e := range list {
		a.wait(e, waits{})
		if need, no := needOf(e.svc); no == nil {
			a.keep(e, need)
		} else {
			a.drop(e, no)
		}
	}
	for _, e := range list {
		a.setAside(e)
	}
	for _, e := range list {
		a.converge(e)
	}
	a.settle()
}

// lacking returns the entries that lack something.
func (a *Allocator) lacking() []*entry {
	list := make([]*entry, 0, len(a.unsettled))
	for e := range a.unsettled {
		list = append(list, e)
	}
	return list
}

// report returns the decision for first, if any, and then those that changed,
// in the order in which they did.
func (a *Allocator) report(first *entry) []Decision {
	n := len(a.changed)
	if first != nil && !first.changed {
		n++
	}
	list := make([]Decision, 0, n)
	take := func(e *entry) {
		d := e.decision
		d.Lost, e.lost = e.lost, nil
		e.changed = false
		list = append(list, d)
	}
	if first != nil {
		take(first)
	}
	for _, e := range a.changed {
		if e != first && a.lookupEntry(e.svc.Key) == e {
			take(e)
		}
	}
	clear(a.changed)
	a.changed = a.changed[:0]
	return list
}

// byAge orders Services by creation time, then namespace and name.
func byAge(a, b *entry) int {
	return cmp.Or(a.svc.Created.Compare(b.svc.Created),
		cmp.Compare(a.svc.Key.Namespace, b.svc.Key.Namespace),
		cmp.Compare(a.svc.Key.Name, b.svc.Key.Name))
}
