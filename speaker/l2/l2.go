package l2

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// DefaultRefresh is how often each address is announced again while nothing
// changes. It is shorter than the 300 s after which switches forget a station.
const DefaultRefresh = 30 * time.Second

// Config is what an Announcer is made of.
type Config struct {
	Logger *slog.Logger
	// Registerer takes the room's metrics; nil for none.
	Registerer prometheus.Registerer
	// Refresh is the period of the repeated announcements: 0 means
	// DefaultRefresh, a negative value switches them off.
	Refresh time.Duration
	// OnChange, if set, is called when Observed may have a new answer. It is
	// called from the room's goroutine and must not block.
	OnChange func()
}

// An Announcer is the layer 2 room. All methods may be called at any time, from
// any goroutine, and repeated; none of them waits for the network.
type Announcer struct {
	log      *slog.Logger
	refresh  time.Duration
	onChange func()
	open     func() (kernel, error)
	metrics  *metrics

	table    table
	ports    atomic.Pointer[ports]
	failures atomic.Pointer[map[membership]error]
	wake     chan struct{}
	// foreignQuota bounds what is logged of other stations, over all addresses.
	foreignQuota quota

	// mu orders writers of the table and the ports, and guards the note of
	// what the loop has to look at.
	mu        sync.Mutex
	dirty     map[netip.Addr]struct{}
	contested map[target]struct{}
	all       bool
}

// New makes an Announcer that announces nothing. It opens no sockets: Run does.
func New(cfg Config) (*Announcer, error) {
	a := &Announcer{
		log:      cfg.Logger,
		refresh:  cfg.Refresh,
		onChange: cfg.OnChange,
		open:     openKernel,
		wake:     make(chan struct{}, 1),
		dirty:    make(map[netip.Addr]struct{}),

		contested: make(map[target]struct{}),
	}
	if a.refresh == 0 {
		a.refresh = DefaultRefresh
	}
	if a.onChange == nil {
		a.onChange = func() {}
	}
	a.ports.Store(newPorts(nil, nil))
	a.failures.Store(&map[membership]error{})
	a.metrics = newMetrics(&a.table)
	if cfg.Registerer != nil {
		if err := cfg.Registerer.Register(a.metrics); err != nil {
			return nil, fmt.Errorf("register the layer 2 metrics: %w", err)
		}
	}
	return a, nil
}

// Set replaces the whole wanted state.
func (a *Announcer) Set(want desired.L2) {
	a.mu.Lock()
	changed := a.table.update(want, a.table.strangers(want))
	a.note(changed)
	a.mu.Unlock()
}

// Apply changes the wanted state. Its cost follows the change, not the size of
// the table.
func (a *Announcer) Apply(change desired.L2Change) {
	a.mu.Lock()
	changed := a.table.update(change.Announce, change.Withdraw)
	a.note(changed)
	a.mu.Unlock()
}

// SetLinks says which interfaces there are to announce from: those of the node
// without the ones that must not announce.
func (a *Announcer) SetLinks(links observed.Links) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.ports.Load()
	next := newPorts(links, old)
	if next == old {
		return
	}
	a.ports.Store(next)
	a.all = true
	a.notify()
}

// note records addresses for the loop; mu is held.
func (a *Announcer) note(changed []netip.Addr) {
	if len(changed) == 0 {
		return
	}
	for _, addr := range changed {
		a.dirty[addr] = struct{}{}
	}
	a.notify()
}

// notify wakes the loop, if it is not about to look anyway.
func (a *Announcer) notify() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// take hands the loop what it has to look at; the maps are the loop's own then.
func (a *Announcer) take() (dirty map[netip.Addr]struct{}, contested map[target]struct{}, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	dirty, contested, all = a.dirty, a.contested, a.all
	a.dirty, a.contested, a.all = make(map[netip.Addr]struct{}), make(map[target]struct{}), false
	return dirty, contested, all
}

// Observed returns what was reached for every wanted address.
func (a *Announcer) Observed() observed.L2 {
	all := make(observed.L2, a.table.size.Load())
	ps, failures := a.ports.Load(), *a.failures.Load()
	for e := range a.table.all {
		all[e.addr] = observe(e, ps, failures)
	}
	return all
}

// ObservedAddress returns what was reached for one address; false if it is not
// wanted.
func (a *Announcer) ObservedAddress(addr netip.Addr) (observed.L2Address, bool) {
	e := a.table.get(addr)
	if e == nil {
		return observed.L2Address{}, false
	}
	return observe(e, a.ports.Load(), *a.failures.Load()), true
}

// observe says from where an entry is announced and why not from elsewhere.
func observe(e *entry, ps *ports, failures map[membership]error) observed.L2Address {
	var o observed.L2Address
	fail := func(name, message string) {
		o.Failures = append(o.Failures, observed.L2Failure{Interface: name, Message: message})
	}
	judge := func(p *port) {
		err := failures[membership{p.index, groupOf(e.addr)}]
		switch ok, why := p.serves(e.addr); {
		case !ok:
			fail(p.name, why)
		case e.addr.Is6() && err != nil:
			fail(p.name, fmt.Sprintf("Joining the solicited-node group failed: %v.", err))
		default:
			o.Interfaces = append(o.Interfaces, p.name)
		}
	}
	if e.interfaces == nil {
		// Not every interface need serve, so only the sum is a failure; a
		// failed join is one in any case.
		for _, p := range ps.of(e) {
			judge(p)
		}
		if len(o.Interfaces)+len(o.Failures) == 0 {
			fail("", "The node has no interface that can announce the address.")
		}
	}
	for _, name := range e.interfaces {
		if p := ps.byName[name]; p != nil {
			judge(p)
		} else {
			fail(name, "The interface does not exist or must not announce.")
		}
	}
	slices.Sort(o.Interfaces)
	slices.SortFunc(o.Failures, func(a, b observed.L2Failure) int { return cmp.Compare(a.Interface, b.Interface) })
	return o
}
