package plan

import (
	"cmp"
	"encoding/binary"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/observed"
)

// Facts are what the nodes of a cluster know alike, Services aside. The order
// of Nodes and Members has no meaning.
type Facts struct {
	// Ready is false until this node knows the cluster: caches synced,
	// configuration compiled, ring settled. It then has no owner to name and
	// announces nothing over layer 2.
	Ready bool
	// Synced is true once the caches and the configuration are known, whether or
	// not the ring is: enough to advertise over BGP, where no node has to agree
	// with another. Ready implies it.
	Synced  bool
	Config  *config.Snapshot
	Nodes   []observed.Node
	Members observed.Members
	// IgnoreExclude is true when nodes with the exclude label take part.
	IgnoreExclude bool
}

// Cluster is Facts, compiled for elections. It remembers what it has worked
// out, so it belongs to one goroutine; Elect is the exception.
type Cluster struct {
	ready, synced bool
	snap          *config.Snapshot
	nodes         []node // in name order
	index         map[string]int
	// rulings by advertisement, in the order of the snapshot.
	rulings map[*config.L2Advertisement]*ruling
	// byPool and bySet remember electorates: of pools whose advertisements
	// apply to every Service, and of sets of advertisements.
	byPool map[poolKey]*electorate
	bySet  map[string]*electorate
	bgp    bgpRules
	// reporter is the first node in name order that speaks, -1 if none does.
	reporter int
}

// poolKey is what the electorate of an ordinary Service depends on.
type poolKey struct {
	pool     *config.Pool
	families families
}

// node is one node before any advertisement is looked at.
type node struct {
	name   string
	labels labels.Set
	// bar is why the node is no candidate for anything, "" if it may be one.
	bar reason.Reason
	// excluded and unavailable are among what bar tells; alive is true when
	// nothing is known against the node's speaker being there.
	excluded, unavailable, alive bool
	// speaks is true when its speaker knows the cluster and may tell of it. One
	// that only gossips, because the API server is out of its reach, must not be
	// the only voice.
	speaks bool
	// anyInterface is true when the interfaces are not known and need not be.
	anyInterface bool
	// doubtful is true when the cluster does not hear of the node and there is no
	// membership to ask: it comes after all others. It stays a candidate, because
	// the cluster may be wrong about all of them.
	doubtful   bool
	interfaces []observed.Interface
}

// ruling is what one advertisement says of each node.
type ruling struct {
	at       int
	selected []bool
	fits     []families // what its interfaces can announce
	score    []int64
}

// electorate is what a set of advertisements says of each node, for Services
// with addresses of the same families.
type electorate struct {
	ads []*config.L2Advertisement
	// families are those of the Services' addresses; a candidate can announce
	// all of them.
	families families
	// bars says why a node is no candidate, "" if it is one.
	bars   []reason.Reason
	scores []int64
	// interfaces to announce from; nil means all.
	interfaces [][]string
	// candidates are indexes of nodes, best the names of those among them
	// that have the highest score. Both are in name order.
	candidates []int
	best       []string
	// closest is, of the nodes that speak, the one that came closest to being a
	// candidate, -1 if none speaks.
	closest int
}

// Compile prepares facts for elections.
func Compile(f Facts) *Cluster {
	c := &Cluster{
		ready:    f.Ready && f.Config != nil,
		synced:   (f.Ready || f.Synced) && f.Config != nil,
		snap:     f.Config,
		nodes:    make([]node, 0, len(f.Nodes)),
		index:    make(map[string]int, len(f.Nodes)),
		rulings:  map[*config.L2Advertisement]*ruling{},
		byPool:   map[poolKey]*electorate{},
		bySet:    map[string]*electorate{},
		reporter: -1,
	}
	members := make(map[string]observed.Member, len(f.Members.Members))
	for _, m := range f.Members.Members {
		members[m.Node] = m
	}
	for _, n := range f.Nodes {
		m, alive := members[n.Name]
		c.nodes = append(c.nodes, nodeOf(n, f, m, alive))
	}
	slices.SortFunc(c.nodes, func(a, b node) int { return cmp.Compare(a.name, b.name) })
	for i, n := range c.nodes {
		c.index[n.name] = i
		if n.speaks && c.reporter < 0 {
			c.reporter = i
		}
	}
	if c.ready {
		for at, ad := range c.snap.L2Advertisements {
			c.rulings[ad] = c.rule(at, ad)
		}
	}
	if c.synced {
		c.bgp = c.newBGPRules()
	}
	return c
}

// Reporter is the node that tells what concerns the cluster as a whole: the
// first in name order that speaks, "" if none does.
func (c *Cluster) Reporter() string {
	if c.reporter < 0 {
		return ""
	}
	return c.nodes[c.reporter].name
}

// nodeOf asks the questions that concern the node alone.
func nodeOf(n observed.Node, f Facts, m observed.Member, alive bool) node {
	out := node{name: n.Name, labels: n.Labels, unavailable: n.NetworkUnavailable}
	out.excluded = n.Excluded && !f.IgnoreExclude
	out.alive = alive || !f.Members.Enabled
	out.speaks = !f.Members.Enabled || alive && (m.Phase == observed.Ready || m.Phase == observed.Restarting)
	switch {
	case out.excluded:
		out.bar = reason.NodeExcluded
	case n.NetworkUnavailable:
		out.bar = reason.NodeNetworkUnavailable
	case !f.Members.Enabled:
		out.anyInterface, out.doubtful = true, n.NotReady
	case !alive:
		out.bar = reason.NodeNotAlive
	case m.Phase == observed.Starting:
		out.bar = reason.NodeStarting
	case m.Phase == observed.Draining:
		out.bar = reason.NodeDraining
	case m.Known:
		// Otherwise nobody can say that it reaches the network: no interface.
		out.interfaces = m.Interfaces
	}
	return out
}

// announces returns the families that the node can announce from the named
// interfaces; no names mean any interface.
func (n *node) announces(names []string) (f families) {
	if n.anyInterface {
		return allFamilies
	}
	for _, i := range n.interfaces {
		if i.Carrier && (len(names) == 0 || slices.Contains(names, i.Name)) {
			f |= familiesThat(i.IPv4, i.IPv6)
		}
	}
	return f
}

func (c *Cluster) rule(at int, ad *config.L2Advertisement) *ruling {
	r := &ruling{
		at:       at,
		selected: make([]bool, len(c.nodes)),
		fits:     make([]families, len(c.nodes)),
		score:    make([]int64, len(c.nodes)),
	}
	for i := range c.nodes {
		n := &c.nodes[i]
		r.selected[i] = config.Matches(ad.NodeSelectors, n.labels)
		if !r.selected[i] {
			continue
		}
		r.fits[i] = n.announces(ad.Interfaces)
		for _, p := range ad.Preferences {
			if p.Nodes.Matches(n.labels) {
				r.score[i] += int64(p.Weight)
			}
		}
	}
	return r
}

// electorateFor returns the electorate of a set of advertisements, which are
// in the order of the snapshot, for addresses of some families.
func (c *Cluster) electorateFor(ads []*config.L2Advertisement, f families) *electorate {
	var room [64]byte
	key := append(room[:0], byte(f))
	for _, ad := range ads {
		key = binary.BigEndian.AppendUint32(key, uint32(c.rulings[ad].at))
	}
	if e, ok := c.bySet[string(key)]; ok {
		return e
	}
	e := c.newElectorate(ads, f)
	c.bySet[string(key)] = e
	return e
}

func (c *Cluster) newElectorate(ads []*config.L2Advertisement, f families) *electorate {
	e := &electorate{
		families:   f,
		ads:        slices.Clone(ads),
		bars:       make([]reason.Reason, len(c.nodes)),
		scores:     make([]int64, len(c.nodes)),
		interfaces: make([][]string, len(c.nodes)),
		closest:    -1,
	}
	rulings := make([]*ruling, len(ads))
	for i, ad := range ads {
		rulings[i] = c.rulings[ad]
	}
	var highest int64
	for i := range c.nodes {
		e.judge(i, &c.nodes[i], rulings)
		if c.nodes[i].speaks && (e.closest < 0 || progress(e.bars[i]) > progress(e.bars[e.closest])) {
			e.closest = i
		}
		if e.bars[i] != "" {
			continue
		}
		e.candidates = append(e.candidates, i)
		if len(e.best) == 0 || e.scores[i] > highest {
			highest, e.best = e.scores[i], e.best[:0]
		}
		if e.scores[i] == highest {
			e.best = append(e.best, c.nodes[i].name)
		}
	}
	return e
}

// doubt outweighs any sum of preferences: there are fewer than 2^32
// advertisements, and the terms of one come to less than 2^20.
const doubt = 1 << 52

// judge fills in what the advertisements say together of node i: those that
// select it count, their scores add up and so do their interfaces.
func (e *electorate) judge(i int, n *node, rulings []*ruling) {
	selected, all := false, false
	var fits families
	for k, r := range rulings {
		if !r.selected[i] {
			continue
		}
		selected = true
		fits |= r.fits[i]
		all = all || len(e.ads[k].Interfaces) == 0
		e.scores[i] += r.score[i]
		e.interfaces[i] = append(e.interfaces[i], e.ads[k].Interfaces...)
	}
	if n.doubtful {
		e.scores[i] -= doubt
	}
	if all {
		e.interfaces[i] = nil
	}
	slices.Sort(e.interfaces[i])
	e.interfaces[i] = slices.Compact(e.interfaces[i])
	switch {
	case !selected:
		e.bars[i] = reason.NodeNotSelected
	case n.bar != "":
		e.bars[i] = n.bar
	case fits&e.families != e.families:
		e.bars[i] = reason.InterfaceMissing
	}
}

// checks are the questions to a node, in the order in which they are asked.
var checks = [...]reason.Reason{
	reason.NodeNotSelected,
	reason.NodeExcluded,
	reason.NodeNetworkUnavailable,
	reason.NodeNotAlive,
	reason.NodeStarting,
	reason.NodeDraining,
	reason.InterfaceMissing,
	reason.NoLocalEndpoints,
}

// progress says how many checks a node passed before bar stopped it.
func progress(bar reason.Reason) int {
	for i, r := range checks {
		if r == bar {
			return i
		}
	}
	return len(checks)
}
