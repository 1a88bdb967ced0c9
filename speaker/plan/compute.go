package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/speaker/desired"
)

// World is everything that a decision depends on.
type World struct {
	Facts
	// Self is the node that asks. It decides nothing about who wins.
	Self     string
	Services []Service
}

// State is what a node wants, with its reasons.
type State struct {
	L2  desired.L2
	BGP desired.BGPRoutes
	// Decisions are those on each Service, in the order of their names; layer 2
	// comes before BGP.
	Decisions []desired.Decision
}

// Compute plans a whole world from nothing.
func Compute(w World) State {
	c := Compile(w.Facts)
	groups := Groups(w.Services)
	ballots := make([]Ballot, len(groups))
	for i, g := range groups {
		ballots[i] = c.Ballot(g)
	}
	elections := make([]Election, len(groups))
	Elect(ballots, elections)
	s := State{L2: desired.L2{}, Decisions: make([]desired.Decision, 0, len(w.Services))}
	for i := range ballots {
		s.Decisions = ballots[i].Decide(s.Decisions, &elections[i], w.Self)
		ballots[i].Announce(s.L2, &elections[i], w.Self)
	}
	s.BGP = routes(ballots, w.Self)
	slices.SortStableFunc(s.Decisions, func(a, b desired.Decision) int {
		return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name))
	})
	return s
}

// routes are what the peers of a node are told.
func routes(ballots []Ballot, node string) desired.BGPRoutes {
	claims := map[netip.Prefix][]Claim{}
	for i := range ballots {
		for k, s := range ballots[i].group {
			for _, o := range ballots[i].Offers(nil, k, node) {
				claims[o.Prefix] = append(claims[o.Prefix], Claim{s.Service, o})
			}
		}
	}
	all := desired.BGPRoutes{}
	for prefix, c := range claims {
		for _, t := range Merge(nil, c) {
			if all[t.Peer] == nil {
				all[t.Peer] = desired.Routes{}
			}
			all[t.Peer][prefix] = t.Attributes
		}
	}
	return all
}
