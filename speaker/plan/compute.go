package plan

import (
	"cmp"
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
	L2 desired.L2
	// Decisions are one for each Service, in the order of their names.
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
	slices.SortFunc(s.Decisions, func(a, b desired.Decision) int {
		return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Name, b.Service.Name))
	})
	return s
}
