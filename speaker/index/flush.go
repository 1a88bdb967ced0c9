package index

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// Change is what became different since the last Flush.
type Change struct {
	L2 desired.L2Change
	// BGP is what the peers are told; it is empty in a cluster without BGP.
	BGP desired.BGPChange
	// Decisions are those that are new or different, in no order.
	Decisions []desired.Decision
	// Dropped are Decisions that are no more though their Service is still
	// there, such as the one over BGP when its pool lost its last
	// BGPAdvertisement. Those of Services in Removed are not in it.
	Dropped []desired.Subject
	// Removed are the Services that left the index, in the order of names.
	Removed []service.Key
}

// Empty tells whether nothing changed.
func (c Change) Empty() bool {
	return len(c.L2.Announce) == 0 && len(c.L2.Withdraw) == 0 && len(c.BGP) == 0 &&
		len(c.Decisions) == 0 && len(c.Dropped) == 0 && len(c.Removed) == 0
}

// Flush decides again on everything that events have touched.
func (x *Index) Flush() Change {
	due := x.takeDirty()
	ballots := make([]plan.Ballot, len(due))
	elections := make([]plan.Election, len(due))
	for i, g := range due {
		ballots[i] = x.cluster.Ballot(g.services)
		elections[i] = g.election
	}
	plan.Elect(ballots, elections)

	var change Change
	now := desired.L2{}
	touched := x.orphans
	x.orphans = nil
	var decisions []desired.Decision
	for i, g := range due {
		g.election = elections[i]
		decisions = ballots[i].Decide(decisions[:0], &g.election, x.self)
		change.Decisions = g.keep(change.Decisions, decisions, len(due)-i)
		touched = append(touched, g.announced...)
		g.announced = g.announced[:0]
		if g.election.Winner() == x.self {
			ballots[i].Announce(now, &g.election, x.self)
			g.announced = appendAnnounced(g.announced, g.services, now)
		}
	}
	change.L2 = x.swap(touched, now)
	change.Removed = slices.SortedFunc(maps.Keys(x.removed), compareKeys)
	x.removed = nil
	return change
}

// takeDirty returns the groups to decide on; all of them after a change of
// the facts.
func (x *Index) takeDirty() []*group {
	x.compile()
	due := x.dirty
	x.dirty = nil
	for _, g := range due {
		g.dirty = false
	}
	if x.all {
		x.all = false
		return slices.Collect(maps.Keys(x.groups))
	}
	return slices.DeleteFunc(due, func(g *group) bool { return g.gone })
}

// compile brings the cluster up to date. If it had to, every group is dirty.
func (x *Index) compile() {
	if !x.stale {
		return
	}
	facts := x.facts
	facts.Nodes = make([]observed.Node, 0, len(x.nodes))
	for _, n := range x.nodes {
		facts.Nodes = append(facts.Nodes, n)
	}
	x.cluster, x.stale, x.all = plan.Compile(facts), false, true
}

// keep stores decisions and appends those that differ from the last ones. The
// groups that are left say how many may come at most, more or less.
func (g *group) keep(to, decisions []desired.Decision, left int) []desired.Decision {
	for i := range decisions {
		d, e := &decisions[i], g.entries[i]
		if equalDecisions(&e.decision, d) {
			continue
		}
		e.decision = *d
		if to == nil {
			to = make([]desired.Decision, 0, left)
		}
		to = append(to, *d)
	}
	return to
}

// appendAnnounced appends the addresses of the group that are in l2.
func appendAnnounced(to []netip.Addr, services plan.Group, l2 desired.L2) []netip.Addr {
	for _, s := range services {
		for _, a := range s.Addresses {
			if _, ok := l2[a]; ok && !slices.Contains(to, a) {
				to = append(to, a)
			}
		}
	}
	return to
}

// swap replaces the addresses touched by those in now and returns the delta.
func (x *Index) swap(touched []netip.Addr, now desired.L2) desired.L2Change {
	var change desired.L2Change
	for _, a := range touched {
		if _, ok := now[a]; ok {
			continue
		}
		if _, ok := x.l2[a]; ok { // touched may hold an address twice
			delete(x.l2, a)
			change.Withdraw = append(change.Withdraw, a)
		}
	}
	slices.SortFunc(change.Withdraw, netip.Addr.Compare)
	for a, w := range now {
		if old, ok := x.l2[a]; ok && equalInterfaces(old.Interfaces, w.Interfaces) {
			continue
		}
		x.l2[a] = w
		if change.Announce == nil {
			change.Announce = desired.L2{}
		}
		change.Announce[a] = w
	}
	return change
}

// equalInterfaces compares lists of which nil means all.
func equalInterfaces(a, b []string) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}

func equalDecisions(a, b *desired.Decision) bool {
	return a.Service == b.Service && a.Protocol == b.Protocol && a.Announce == b.Announce &&
		a.Owner == b.Owner && a.Reason == b.Reason && a.Message == b.Message && a.Reports == b.Reports &&
		slices.Equal(a.Addresses, b.Addresses) && equalInterfaces(a.Interfaces, b.Interfaces)
}

func compareKeys(a, b service.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
