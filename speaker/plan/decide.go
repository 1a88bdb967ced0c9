package plan

import (
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// Decide appends what the election means on one node: for every Service of the
// group its Decision over layer 2, over BGP, or both in that order; each with
// exactly one reason.
func (b *Ballot) Decide(to []desired.Decision, e *Election, node string) []desired.Decision {
	i, ok := b.cluster.index[node]
	if !ok {
		i = -1
	}
	owner, ok := b.cluster.index[e.winner]
	if !ok {
		owner = -1
	}
	for k := range b.group {
		reports := i >= 0 && i == b.reporter(k, owner)
		if b.seats[k].layer2 {
			to = append(to, b.decide(k, i, owner, reports))
		}
		if b.seats[k].bgp {
			to = append(to, b.decideBGP(k, i, reports))
		}
	}
	return to
}

// decide is the verdict on Service k for node i; owner is -1 for none, and i
// for a node that the cluster does not have.
func (b *Ballot) decide(k, i, owner int, reports bool) desired.Decision {
	s, st := b.group[k], b.seats[k]
	d := desired.Decision{Service: s.Key, Protocol: desired.Layer2, Addresses: s.Addresses, Reports: reports}
	if owner >= 0 {
		d.Owner = b.cluster.nodes[owner].name
	}

	bar := b.barredOn(k, i)
	what := st.what
	switch {
	case i >= 0 && i == owner:
		switch {
		case bar == "":
			d.Announce, d.Reason = true, reason.Elected
			d.Interfaces = st.electorate.interfaces[i]
		case st.bar == "" && b.anyone(k):
			d.Reason, what = reason.OwnerServesOthers, d.Owner+": "+string(bar)
		default:
			d.Reason = bar
		}
	case bar != "":
		d.Reason = bar
	case b.barredOn(k, owner) != "":
		d.Reason, what = reason.OwnerServesOthers, d.Owner+": "+string(b.barredOn(k, owner))
	default:
		d.Reason = reason.NotOwner
	}
	if d.Reason == reason.InterfaceMissing && i >= 0 {
		what = b.cluster.missing(st, i)
	}
	d.Message = message(d.Reason, what)
	if d.Reports && owner < 0 && st.bar == "" {
		// The reason is this node's, the question was why nobody announces.
		d.Message = "No node may announce the Service. " + b.cluster.nodes[i].name + " comes closest: " + d.Message
	}
	return d
}

// barredOn is Cluster.barred for Service k, also for a node that the cluster
// does not have (-1): nothing can select it.
func (b *Ballot) barredOn(k, i int) reason.Reason {
	if i < 0 && b.seats[k].bar == "" {
		return reason.NodeNotSelected
	}
	return b.cluster.barred(b.group[k], b.seats[k], i)
}

// anyone tells whether some node may serve Service k.
func (b *Ballot) anyone(k int) bool {
	return slices.ContainsFunc(b.seats[k].electorate.candidates, func(i int) bool {
		return b.cluster.barred(b.group[k], b.seats[k], i) == ""
	})
}

// reporter is the node that tells the outcome on Service k: its owner or, if
// nobody owns it, the node that speaks and whose reason explains most.
func (b *Ballot) reporter(k, owner int) int {
	switch {
	case !b.cluster.ready:
		return -1
	case !b.seats[k].layer2:
		return b.cluster.reporter
	case owner >= 0:
		return owner
	case b.seats[k].electorate == nil:
		return b.cluster.reporter
	}
	return b.seats[k].electorate.closest
}

// missing says what a node lacks of the interfaces, or what they cannot do.
func (c *Cluster) missing(st seat, i int) string {
	n, names := &c.nodes[i], st.electorate.interfaces[i]
	if lacks := st.electorate.families &^ n.announces(names); n.has(names) && lacks != 0 {
		if len(names) > 0 {
			return strings.Join(names, ", ") + " cannot announce " + lacks.String()
		}
		return "no interface can announce " + lacks.String()
	}
	if len(names) > 0 {
		return strings.Join(names, ", ")
	}
	if len(n.interfaces) == 0 {
		return "its interfaces are not known"
	}
	return ""
}

// has tells whether the node has one of the named interfaces with a carrier.
func (n *node) has(names []string) bool {
	return slices.ContainsFunc(n.interfaces, func(i observed.Interface) bool {
		return i.Carrier && (len(names) == 0 || slices.Contains(names, i.Name))
	})
}

// message is the sentence of a reason, with what it leaves open.
func message(r reason.Reason, what string) string {
	if what == "" {
		return r.Sentence()
	}
	return strings.TrimSuffix(r.Sentence(), ".") + " (" + what + ")."
}

// Announce adds to l2 the addresses of the group that the node announces.
func (b *Ballot) Announce(to desired.L2, e *Election, node string) {
	if e.winner == "" || e.winner != node {
		return
	}
	i := b.cluster.index[node]
	for k := range b.group {
		if b.barredOn(k, i) != "" {
			continue
		}
		names := b.seats[k].electorate.interfaces[i]
		for _, a := range b.group[k].Addresses {
			if old, ok := to[a]; ok {
				to[a] = desired.L2Address{Interfaces: union(old.Interfaces, names)}
			} else {
				to[a] = desired.L2Address{Interfaces: names}
			}
		}
	}
}

// union of two sorted lists of interfaces, of which nil means all.
func union(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	if slices.Equal(a, b) {
		return a
	}
	both := slices.Concat(a, b)
	slices.Sort(both)
	return slices.Compact(both)
}

// A Verdict is the decision of one node.
type Verdict struct {
	Node string
	desired.Decision
}

// Explain returns the verdicts of every node on every Service of the group,
// in the order of the nodes' names.
func (b *Ballot) Explain(e *Election) []Verdict {
	var all []Verdict
	for i := range b.cluster.nodes {
		name := b.cluster.nodes[i].name
		for _, d := range b.Decide(nil, e, name) {
			all = append(all, Verdict{name, d})
		}
	}
	return all
}
