package index

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// Index holds the world as one node knows it, and its decisions.
type Index struct {
	self  string
	facts plan.Facts // Nodes is empty: they are in nodes
	nodes map[string]observed.Node

	services map[service.Key]*entry
	holders  map[netip.Addr][]*entry
	groups   map[*group]struct{}

	cluster *plan.Cluster
	// stale is true when cluster does not show the present facts; all when
	// every group must be asked again, not only those in dirty.
	stale, all bool
	dirty      []*group
	// orphans are addresses that were announced for groups that are gone.
	orphans []netip.Addr
	// removed are the entries of Services that were removed, nil until one is.
	removed map[service.Key]*entry

	l2  desired.L2
	bgp routes
}

// entry is one Service with what was last decided on it.
type entry struct {
	service plan.Service
	group   *group
	// decisions are over layer 2 and over BGP, nil where there is none.
	decisions [2]*desired.Decision
	// room is for the one that most Services have.
	room desired.Decision
	// offers are those that the routes hold, born is the Service's age in them.
	offers []plan.Offer
	born   time.Time
}

// group is one sharing group with its last election.
type group struct {
	services  plan.Group
	entries   []*entry // beside services
	election  plan.Election
	announced []netip.Addr
	// dirty is true while it is in Index.dirty, gone when it was dissolved.
	dirty, gone bool
}

// New returns an empty Index for the node self. It knows nothing yet: see
// SetSynced and SetReady.
func New(self string, ignoreExclude bool) *Index {
	return &Index{
		self:     self,
		facts:    plan.Facts{IgnoreExclude: ignoreExclude},
		nodes:    map[string]observed.Node{},
		services: map[service.Key]*entry{},
		holders:  map[netip.Addr][]*entry{},
		groups:   map[*group]struct{}{},
		stale:    true,
		l2:       desired.L2{},
		bgp:      newRoutes(),
	}
}

// SetSynced tells that this node knows the objects of the cluster, whether or
// not it knows the other speakers: it may advertise over BGP.
func (x *Index) SetSynced(synced bool) {
	if x.facts.Synced != synced {
		x.facts.Synced, x.stale = synced, true
	}
}

// SetReady tells that this node knows the cluster, which is more than SetSynced
// tells.
func (x *Index) SetReady(ready bool) {
	if x.facts.Ready != ready {
		x.facts.Ready, x.stale = ready, true
	}
}

// SetConfig puts a configuration in force.
func (x *Index) SetConfig(s *config.Snapshot) {
	if x.facts.Config != s {
		x.facts.Config, x.stale = s, true
	}
}

// SetMembers takes the membership ring as it is now.
func (x *Index) SetMembers(m observed.Members) {
	if !equalMembers(x.facts.Members, m) {
		x.facts.Members, x.stale = m, true
	}
}

// SetNode adds or changes a node.
func (x *Index) SetNode(n observed.Node) {
	old, ok := x.nodes[n.Name]
	if ok && old.NetworkUnavailable == n.NetworkUnavailable && old.NotReady == n.NotReady && old.Excluded == n.Excluded && maps.Equal(old.Labels, n.Labels) {
		return
	}
	x.nodes[n.Name], x.stale = n, true
}

// DeleteNode forgets a node.
func (x *Index) DeleteNode(name string) {
	if _, ok := x.nodes[name]; ok {
		delete(x.nodes, name)
		x.stale = true
	}
}

// Len is the number of Services.
func (x *Index) Len() int { return len(x.services) }

// Get returns a Service as it was set last.
func (x *Index) Get(key service.Key) (plan.Service, bool) {
	e, ok := x.services[key]
	if !ok {
		return plan.Service{}, false
	}
	return e.service, true
}

// Reporter is the node that tells what concerns the cluster as a whole, "" if
// no node is alive.
func (x *Index) Reporter() string {
	x.compile()
	return x.cluster.Reporter()
}

// L2 is a copy of everything that this node announces.
func (x *Index) L2() desired.L2 { return maps.Clone(x.l2) }

// BGP is a copy of everything that the peers are told.
func (x *Index) BGP() desired.BGPRoutes { return x.bgp.all() }

// Decision returns what was last decided on a Service over a protocol.
func (x *Index) Decision(key service.Key, over desired.Protocol) (desired.Decision, bool) {
	e, ok := x.services[key]
	if !ok || e.decisions[place(over)] == nil {
		return desired.Decision{}, false
	}
	return *e.decisions[place(over)], true
}

// Explain returns the verdict of every node on a Service, in name order.
func (x *Index) Explain(key service.Key) []plan.Verdict {
	e, ok := x.services[key]
	if !ok {
		return nil
	}
	x.compile()
	ballots := []plan.Ballot{x.cluster.Ballot(e.group.services)}
	elections := []plan.Election{e.group.election}
	plan.Elect(ballots, elections)
	all := ballots[0].Explain(&elections[0])
	return slices.DeleteFunc(all, func(v plan.Verdict) bool { return v.Service != key })
}

func equalMembers(a, b observed.Members) bool {
	return a.Enabled == b.Enabled && slices.EqualFunc(a.Members, b.Members, func(m, n observed.Member) bool {
		return m.Node == n.Node && m.Phase == n.Phase && m.Known == n.Known &&
			slices.EqualFunc(m.Interfaces, n.Interfaces, func(i, j observed.Interface) bool {
				return i.Name == j.Name && i.Carrier == j.Carrier && i.IPv4 == j.IPv4 && i.IPv6 == j.IPv6
			})
	})
}
