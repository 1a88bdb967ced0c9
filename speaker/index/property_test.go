package index_test

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/index"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
	"github.com/heraldlb/herald/speaker/plan/plantest"
)

var addresses = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// model is the world that a history leaves, and what the deltas add up to.
type model struct {
	plan.Facts
	nodes     map[string]observed.Node
	services  map[service.Key]plan.Service
	l2        desired.L2
	bgp       desired.BGPRoutes
	decisions map[desired.Subject]desired.Decision
	// deleted are the Services deleted since the last flush.
	deleted map[service.Key]bool
}

// step draws one event and gives it to the index and to the model.
func (m *model) step(t *rapid.T, x *index.Index) {
	switch rapid.IntRange(0, 12).Draw(t, "event") {
	case 0, 1, 2, 3, 4:
		s := plantest.Service(t, rapid.IntRange(0, plantest.Services-1).Draw(t, "service"))
		m.services[s.Key] = s
		x.Set(s)
	case 5, 6:
		key := plantest.Service(t, rapid.IntRange(0, plantest.Services-1).Draw(t, "service")).Key
		delete(m.services, key)
		m.deleted[key] = true
		x.Delete(key)
	case 7:
		for key, s := range m.services {
			s.Endpoints = plantest.Endpoints(t)
			m.services[key] = s
			x.Set(s)
			break
		}
	case 8:
		n := plantest.Node(t, plantest.NodeName(rapid.IntRange(0, plantest.Nodes-1).Draw(t, "node")))
		m.nodes[n.Name] = n
		x.SetNode(n)
	case 9:
		name := plantest.NodeName(rapid.IntRange(0, plantest.Nodes-1).Draw(t, "node"))
		delete(m.nodes, name)
		x.DeleteNode(name)
	case 10, 11:
		m.Members = plantest.Members(t)
		x.SetMembers(m.Members)
	case 12:
		m.Config = plantest.Config(t)
		x.SetConfig(m.Config)
		m.Ready = rapid.IntRange(0, 5).Draw(t, "ready") > 0
		x.SetReady(m.Ready)
		m.Synced = rapid.IntRange(0, 5).Draw(t, "synced") > 0
		x.SetSynced(m.Synced)
	}
}

// flush applies the deltas of the index to the model.
func (m *model) flush(t *rapid.T, x *index.Index) {
	c := x.Flush()
	for _, a := range c.L2.Withdraw {
		if _, ok := m.l2[a]; !ok {
			t.Fatalf("%s is withdrawn but was not announced", a)
		}
		delete(m.l2, a)
	}
	maps.Copy(m.l2, c.L2.Announce)
	m.applyBGP(t, c.BGP)
	for _, d := range c.Decisions {
		of := desired.Subject{Service: d.Service, Protocol: d.Protocol}
		if !m.deleted[d.Service] && cmp.Equal(m.decisions[of], d, addresses) {
			t.Fatalf("%s: a decision that did not change is handed on: %+v", d.Service, d)
		}
		m.decisions[of] = d
	}
	for _, of := range c.Dropped {
		if _, ok := m.decisions[of]; !ok || slices.Contains(c.Removed, of.Service) {
			t.Fatalf("%v is dropped, but was never decided or is removed", of)
		}
		delete(m.decisions, of)
	}
	for _, key := range c.Removed {
		delete(m.decisions, desired.Subject{Service: key, Protocol: desired.Layer2})
		delete(m.decisions, desired.Subject{Service: key, Protocol: desired.BGP})
	}
	clear(m.deleted)
	if again := x.Flush(); !again.Empty() {
		t.Fatalf("a second flush changes something: %+v", again)
	}
}

// applyBGP applies a delta of the routes, which must hold differences only.
func (m *model) applyBGP(t *rapid.T, change desired.BGPChange) {
	for peer, c := range change {
		if m.bgp[peer] == nil {
			m.bgp[peer] = desired.Routes{}
		}
		routes := m.bgp[peer]
		if len(c.Announce)+len(c.Withdraw) == 0 {
			t.Fatalf("%s hears of nothing", peer)
		}
		for _, p := range c.Withdraw {
			if _, ok := routes[p]; !ok {
				t.Fatalf("%s is withdrawn from %s, which was not told of it", p, peer)
			}
			delete(routes, p)
		}
		for p, a := range c.Announce {
			if slices.Contains(c.Withdraw, p) || routes[p] != nil && routes[p].Equal(a) {
				t.Fatalf("%s hears of %s, where nothing is different", peer, p)
			}
			routes[p] = a
		}
		if len(routes) == 0 {
			delete(m.bgp, peer)
		}
	}
	for _, a := range m.bgp {
		for _, b := range m.bgp {
			for p, x := range a {
				for q, y := range b {
					if x != y && x.Equal(y) {
						t.Fatalf("%s and %s look the same and share no attributes", p, q)
					}
				}
			}
		}
	}
}

func TestIncrementalEqualsFull(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const self = "node-a"
		m := &model{
			nodes: map[string]observed.Node{}, services: map[service.Key]plan.Service{},
			l2: desired.L2{}, bgp: desired.BGPRoutes{}, decisions: map[desired.Subject]desired.Decision{},
			deleted: map[service.Key]bool{},
		}
		m.Ready, m.Config, m.Members = true, plantest.Config(t), plantest.Members(t)
		x := index.New(self, false)
		x.SetReady(true)
		x.SetConfig(m.Config)
		x.SetMembers(m.Members)
		for i := range plantest.Nodes {
			n := plantest.Node(t, plantest.NodeName(i))
			m.nodes[n.Name] = n
			x.SetNode(n)
		}
		for range rapid.IntRange(1, 30).Draw(t, "rounds") {
			for range rapid.IntRange(1, 4).Draw(t, "events") {
				m.step(t, x)
			}
			m.flush(t, x)
			m.check(t, x, self)
		}
	})
}

// check compares with a full plan of the world as it is now.
func (m *model) check(t *rapid.T, x *index.Index, self string) {
	w := plan.World{Facts: m.Facts, Self: self}
	w.Nodes = slices.Collect(maps.Values(m.nodes))
	w.Services = slices.Collect(maps.Values(m.services))
	want := plan.Compute(w)
	if diff := cmp.Diff(want.L2, m.l2, addresses, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("addresses (-full +incremental):\n%s", diff)
	}
	if diff := cmp.Diff(want.L2, x.L2(), addresses, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("Index.L2 (-full +incremental):\n%s", diff)
	}
	for _, got := range []desired.BGPRoutes{m.bgp, x.BGP()} {
		if diff := cmp.Diff(want.BGP, got, addresses, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("routes (-full +incremental):\n%s", diff)
		}
	}
	if len(want.Decisions) != len(m.decisions) {
		t.Fatalf("%d decisions, want %d", len(m.decisions), len(want.Decisions))
	}
	for _, d := range want.Decisions {
		if diff := cmp.Diff(d, m.decisions[desired.Subject{Service: d.Service, Protocol: d.Protocol}], addresses); diff != "" {
			t.Fatalf("decision (-full +incremental):\n%s", diff)
		}
		if got, ok := x.Decision(d.Service, d.Protocol); !ok || !cmp.Equal(d, got, addresses) {
			t.Fatalf("Decision: %+v, want %+v", got, d)
		}
		for _, v := range x.Explain(d.Service) {
			if v.Node != self || v.Protocol != d.Protocol {
				continue
			}
			if diff := cmp.Diff(d, v.Decision, addresses); diff != "" {
				t.Fatalf("Explain (-full +incremental):\n%s", diff)
			}
		}
	}
}
