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
	var offers []plan.Offer
	said := sameness{}
	for i, g := range due {
		g.election = elections[i]
		decisions = ballots[i].Decide(decisions[:0], &g.election, x.self)
		change.keep(g, decisions, len(due)-i, said)
		for k, e := range g.entries {
			offers = ballots[i].Offers(offers[:0], k, x.self)
			x.bgp.claim(e, offers)
		}
		touched = append(touched, g.announced...)
		g.announced = g.announced[:0]
		if g.election.Winner() == x.self {
			ballots[i].Announce(now, &g.election, x.self)
			g.announced = appendAnnounced(g.announced, g.services, now)
		}
	}
	change.BGP = x.bgp.flush()
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

// place is where an entry keeps what was decided over a protocol.
func place(p desired.Protocol) int {
	if p == desired.BGP {
		return 1
	}
	return 0
}

// keep stores the decisions on a group, which are in the order of its entries,
// and takes in those that differ from the last ones. The groups that are left
// say how many may come at most, more or less.
func (c *Change) keep(g *group, decisions []desired.Decision, left int, said sameness) {
	for _, e := range g.entries {
		var now [2]*desired.Decision
		for len(decisions) > 0 && decisions[0].Service == e.service.Key {
			now[place(decisions[0].Protocol)] = &decisions[0]
			decisions = decisions[1:]
		}
		for i, d := range now {
			last := e.decisions[i]
			switch {
			case d == nil && last == nil:
			case d == nil:
				e.decisions[i] = nil
				c.Dropped = append(c.Dropped, desired.Subject{Service: e.service.Key, Protocol: [...]desired.Protocol{desired.Layer2, desired.BGP}[i]})
			case last != nil && said.equal(last, d):
			default:
				if last == nil {
					if last = &e.room; e.decisions[1-i] == last {
						last = new(desired.Decision)
					}
					e.decisions[i] = last
				}
				*last = *d
				if c.Decisions == nil {
					c.Decisions = make([]desired.Decision, 0, left)
				}
				c.Decisions = append(c.Decisions, *d)
			}
		}
	}
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

// sameness remembers which lists of advertisers were found to be equal: most
// Services of a pool share one, and it can be as long as the cluster is big.
type sameness map[[2]*desired.Advertiser]bool

func (s sameness) equal(a, b *desired.Decision) bool {
	return a.Service == b.Service && a.Protocol == b.Protocol && a.Announce == b.Announce &&
		a.Owner == b.Owner && a.Reason == b.Reason && a.Message == b.Message && a.Reports == b.Reports &&
		a.Outcome == b.Outcome && a.Ignored == b.Ignored && slices.Equal(a.Addresses, b.Addresses) && equalInterfaces(a.Interfaces, b.Interfaces) &&
		slices.Equal(a.Peers, b.Peers) && s.advertisers(a.Advertisers, b.Advertisers)
}

func (s sameness) advertisers(a, b []desired.Advertiser) bool {
	if len(a) != len(b) || len(a) == 0 || &a[0] == &b[0] {
		return len(a) == len(b)
	}
	pair := [2]*desired.Advertiser{&a[0], &b[0]}
	same, known := s[pair]
	if !known {
		same = slices.EqualFunc(a, b, func(x, y desired.Advertiser) bool {
			return x.Node == y.Node && slices.Equal(x.Peers, y.Peers)
		})
		s[pair] = same
	}
	return same
}

func compareKeys(a, b service.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
