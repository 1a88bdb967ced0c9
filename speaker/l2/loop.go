package l2

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/net/bpf"

	"github.com/mdlayher/arp"
)

const (
	// filterPause is the least time between two filters, when addresses keep
	// coming; filterLinger is how long withdrawn ones may stay in it.
	filterPause  = 20 * time.Millisecond
	filterLinger = time.Second
	// joinsPerStep bounds how long groups keep the loop from bursts: a join
	// takes the kernel longer the more there are.
	joinsPerStep = 64
	// verifyEvery is how often the kernel's memberships are compared.
	verifyEvery = 30 * time.Second
	retryFirst  = time.Second
	retryMost   = 30 * time.Second
)

// A protocol is one of the two that the room speaks, each on its own socket.
type protocol int

const (
	protoARP protocol = iota
	protoNDP
	protocols
)

func (p protocol) String() string { return [...]string{"ARP", "NDP"}[p] }

func protocolOf(addr netip.Addr) protocol {
	if addr.Is4() {
		return protoARP
	}
	return protoNDP
}

// A kernel is what the room needs of the operating system. Receive is called
// by one goroutine for each protocol, Send by all, the others by the loop.
type kernel interface {
	joiner
	// Receive waits for a frame and says on which interface it arrived.
	Receive(p protocol, frame []byte) (n, index int, err error)
	// Send sends a frame and does not wait for room in a queue.
	Send(p protocol, index int, frame []byte) error
	// Filter replaces the protocol's packet filter at once.
	Filter(p protocol, program []bpf.Instruction) error
	// Memberships are the solicited-node groups that are really joined.
	Memberships() (map[membership]bool, error)
	// Drops counts the frames that were lost since the last call.
	Drops(p protocol) (uint64, error)
	// Close ends every call that waits. It may be repeated.
	Close() error
}

// A loop carries out what follows from the table and the ports. It belongs to
// one goroutine; it looks at the present state of both, never at a history.
type loop struct {
	a       *Announcer
	k       kernel
	ports   *ports // as of the last step
	known   map[netip.Addr]known
	burst   *burster
	groups  *groups
	filters [protocols]filterState

	verifyAt time.Time
	retryAt  time.Time
	retryIn  time.Duration
	shots    []shot
	frame    []byte
	// quiet holds the interfaces whose send error was logged.
	quiet map[int]bool
}

// known is what the loop last saw of an address.
type known struct {
	tally *tally
	at    []*port
}

// filterState is the kernel's filter of one protocol.
type filterState struct {
	current *filter
	made    time.Time
	// notBefore spaces attempts.
	notBefore time.Time
	limit     int
	// urgent: an address is missing in it; stale: it holds one too many.
	urgent, stale bool
}

func newLoop(a *Announcer, k kernel) *loop {
	l := &loop{
		a: a, k: k,
		known: make(map[netip.Addr]known), burst: newBurster(max(a.refresh, 0)), groups: newGroups(),
		retryIn: retryFirst, quiet: make(map[int]bool),
	}
	for p := range l.filters {
		l.filters[p] = filterState{current: &filter{six: protocol(p) == protoNDP}, limit: maxInstructions}
	}
	return l
}

// step does what is due and returns when to call it again, if nothing wakes it
// before; the zero time means that nothing is planned.
func (l *loop) step(now time.Time) time.Time {
	l.look(now)
	next := earliest(l.refilter(now, protoARP), l.refilter(now, protoNDP))
	next = earliest(next, l.shoot(now))
	return earliest(next, l.join(now))
}

// look compares the present table and ports with what the loop last saw.
func (l *loop) look(now time.Time) {
	dirty, contested, all := l.a.take()
	l.ports = l.a.ports.Load()
	if all || len(l.known) == 0 {
		clear(l.quiet)
		for addr := range l.known {
			dirty[addr] = struct{}{}
		}
		for e := range l.a.table.all {
			dirty[e.addr] = struct{}{}
		}
	}
	for addr := range dirty {
		l.lookAt(now, addr)
	}
	l.defend(now, contested)
	if all || len(dirty) > 0 {
		l.a.onChange()
	}
}

func (l *loop) lookAt(now time.Time, addr netip.Addr) {
	before, after := l.known[addr], known{}
	if e := l.a.table.get(addr); e != nil {
		after = known{e.tally, l.ports.of(e)}
	}
	if after.tally == before.tally && slices.Equal(after.at, before.at) {
		return
	}
	for _, p := range before.at {
		if !slices.ContainsFunc(after.at, func(q *port) bool { return q.index == p.index }) {
			l.burst.Stop(target{addr, p.index})
		}
	}
	for _, p := range after.at {
		// Not a takeover: the same tenure from the same station.
		held := after.tally == before.tally &&
			slices.ContainsFunc(before.at, func(q *port) bool { return q.index == p.index && q.mac == p.mac })
		if !held {
			l.burst.Start(now, target{addr, p.index})
		}
	}
	f := &l.filters[protocolOf(addr)]
	if after.tally == nil {
		delete(l.known, addr)
		f.stale = true
	} else {
		l.known[addr] = after
		f.urgent = f.urgent || !f.current.covers(addr)
	}
	if addr.Is6() {
		l.groups.note(addr, len(after.at) > 0)
	}
}

// refilter renews a packet filter when it is due and says when it will be.
func (l *loop) refilter(now time.Time, p protocol) time.Time {
	f := &l.filters[p]
	switch {
	case !f.urgent && !f.stale:
		return time.Time{}
	case now.Before(f.notBefore):
		return f.notBefore
	case !f.urgent && now.Before(f.made.Add(filterLinger)):
		return f.made.Add(filterLinger)
	}
	var addrs []netip.Addr
	for addr := range l.known {
		if protocolOf(addr) == p {
			addrs = append(addrs, addr)
		}
	}
	for {
		next := newFilter(p == protoNDP, addrs, f.limit)
		err := l.k.Filter(p, next.program())
		if err == nil {
			f.current, f.urgent, f.stale = next, false, false
			f.made, f.notBefore = now, now.Add(filterPause)
			return time.Time{}
		}
		// The kernel's memory for filters (net.core.optmem_max) may hold less
		// than the largest program: a coarser filter is correct as well.
		if errors.Is(err, errNoMemory) && f.limit > 256 {
			f.limit /= 2
			continue
		}
		if !errors.Is(err, errClosed) {
			l.a.metrics.errors.Add(1)
			l.a.log.Error("cannot set the packet filter", "protocol", p.String(), "err", err)
		}
		f.notBefore = now.Add(filterLinger)
		return f.notBefore
	}
}

// shoot sends the announcements that are due.
func (l *loop) shoot(now time.Time) time.Time {
	shots, next := l.burst.Next(now, l.shots[:0])
	l.shots = shots
	for _, s := range shots {
		p, e := l.ports.byIndex[s.index], l.a.table.get(s.addr)
		if p == nil || e == nil {
			continue // withdrawn since the last look; the next one stops it
		}
		e.tally.contest.forget(s.index)
		l.frame = appendShot(l.frame[:0], p, s)
		if err := l.k.Send(protocolOf(s.addr), s.index, l.frame); err != nil {
			l.sendFailed(p, err)
			continue
		}
		e.tally.gratuitous.Add(1)
	}
	return next
}

// appendShot appends the frame of a shot.
func appendShot(buf []byte, p *port, s shot) []byte {
	if s.addr.Is6() {
		return appendUnsolicitedNA(buf, p, s.addr)
	}
	op := arp.OperationRequest
	if s.form == 1 {
		op = arp.OperationReply
	}
	return appendGratuitousARP(buf, p, op, s.addr)
}

// sendFailed counts, and logs once for an interface until links change. That
// an interface is gone is no news: its end arrives as a change of links.
func (l *loop) sendFailed(p *port, err error) {
	l.a.metrics.errors.Add(1)
	if errors.Is(err, errLinkGone) || errors.Is(err, errClosed) || l.quiet[p.index] {
		return
	}
	l.quiet[p.index] = true
	l.a.log.Warn("cannot send an announcement", "interface", p.name, "err", err)
}

// join brings the multicast groups up to date, a part at a time.
func (l *loop) join(now time.Time) time.Time {
	if l.verifyAt.IsZero() {
		l.verifyAt = now.Add(verifyEvery)
	}
	if !now.Before(l.verifyAt) {
		l.verifyAt = now.Add(verifyEvery)
		l.verify()
	}
	if !l.retryAt.IsZero() && !now.Before(l.retryAt) {
		l.retryAt = time.Time{}
		l.groups.retry()
	}
	at := func(addr netip.Addr) []*port { return l.known[addr].at }
	if l.groups.reconcile(at, l.k, joinsPerStep) {
		failed := maps.Clone(l.groups.failed)
		if err := anyOf(failed); len(failed) > len(*l.a.failures.Load()) && !errors.Is(err, errClosed) {
			l.a.log.Warn("cannot join solicited-node groups", "failed", len(failed), "err", err)
		}
		l.a.failures.Store(&failed)
		l.a.onChange()
	}
	if len(l.groups.dirty) > 0 {
		return now
	}
	if len(l.groups.failed) == 0 {
		l.retryAt, l.retryIn = time.Time{}, retryFirst
	} else if l.retryAt.IsZero() {
		l.retryAt, l.retryIn = now.Add(l.retryIn), min(2*l.retryIn, retryMost)
	}
	return earliest(l.verifyAt, l.retryAt)
}

// verify looks for memberships and frames that got lost.
func (l *loop) verify() {
	for p := range protocols {
		if n, err := l.k.Drops(p); err == nil {
			l.a.metrics.dropped.Add(n)
		}
	}
	if len(l.groups.joined) == 0 {
		return
	}
	real, err := l.k.Memberships()
	if err != nil {
		l.a.log.Warn("cannot read the multicast memberships", "err", err)
		return
	}
	l.groups.verify(real, l.k)
}

// anyOf returns one of the errors, the same for the same map.
func anyOf(failed map[membership]error) error {
	var first membership
	var found error
	for m, err := range failed {
		if found == nil || m.index < first.index || m.index == first.index && m.group < first.group {
			first, found = m, err
		}
	}
	return found
}

// earliest is the sooner of two moments, where the zero time is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
