package index_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/index"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// sim is a cluster of speakers, each with its own index and its own view of
// the ring. News travel one message at a time, in any order.
type sim struct {
	t     *rapid.T
	nodes map[string]*simNode
	// side of the network that each node is on.
	side map[string]int
	// news are views that have changed and were not delivered yet.
	news []delivery
}

type simNode struct {
	index *index.Index
	alive bool
	phase observed.Phase
	// view is what it knows of the others: their phase, by name.
	view map[string]observed.Phase
	wire desired.L2 // what it answers for
}

// delivery tells node to of node from; gone means that from is not heard.
type delivery struct {
	to, from string
	phase    observed.Phase
	gone     bool
}

const (
	simNodes    = 5
	simServices = 40
)

func newSim(t *rapid.T) *sim {
	s := &sim{t: t, nodes: map[string]*simNode{}, side: map[string]int{}}
	ad := &config.L2Advertisement{Name: "all"}
	snapshot := config.NewSnapshot(config.Snapshot{
		Pools:            []*config.Pool{{Name: "pool", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, L2: []*config.L2Advertisement{ad}}},
		L2Advertisements: []*config.L2Advertisement{ad},
	})
	for i := range simNodes {
		n := &simNode{index: index.New(nodeName(i), false), view: map[string]observed.Phase{}, wire: desired.L2{}}
		n.index.SetReady(true)
		n.index.SetConfig(snapshot)
		for j := range simNodes {
			n.index.SetNode(observed.Node{Name: nodeName(j)})
		}
		for k := range simServices {
			n.index.Set(plan.Service{
				Service: &service.Service{
					Key: service.Key{Namespace: "default", Name: fmt.Sprint(k)}, Created: time.Unix(int64(k), 0),
					LoadBalancer: true, Addresses: []netip.Addr{simAddress(k)},
				},
				Endpoints: service.Endpoints{Any: true},
			})
		}
		s.nodes[nodeName(i)] = n
	}
	return s
}

func simAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

func (s *sim) names() []string { return slices.Sorted(maps.Keys(s.nodes)) }

// look lets a node act on what it knows. One that drains still answers for
// what it had: it stops later.
func (s *sim) look(name string) {
	n := s.nodes[name]
	m := observed.Members{Enabled: true, Settled: true}
	for node, phase := range n.view {
		m.Members = append(m.Members, simMember(node, phase))
	}
	m.Members = append(m.Members, simMember(name, n.phase))
	n.index.SetMembers(m)
	c := n.index.Flush()
	if n.phase == observed.Draining {
		return
	}
	maps.Copy(n.wire, c.L2.Announce)
	for _, a := range c.L2.Withdraw {
		delete(n.wire, a)
	}
}

func simMember(name string, phase observed.Phase) observed.Member {
	return observed.Member{Node: name, Phase: phase, Known: true, Interfaces: []observed.Interface{{Name: "eth0", Carrier: true, IPv4: true, IPv6: true}}}
}

// tell spreads what a node says of itself, to those that can hear it.
func (s *sim) tell(name string) {
	for _, to := range s.names() {
		if to != name && s.nodes[to].alive {
			s.news = append(s.news, delivery{to: to, from: name, phase: s.nodes[name].phase, gone: !s.hears(to, name)})
		}
	}
}

func (s *sim) hears(a, b string) bool {
	return s.nodes[a].alive && s.nodes[b].alive && s.side[a] == s.side[b]
}

// deliver delivers all news in a drawn order; check is called after each.
func (s *sim) deliver(check func()) {
	for len(s.news) > 0 {
		i := rapid.IntRange(0, len(s.news)-1).Draw(s.t, "next")
		d := s.news[i]
		s.news = slices.Delete(s.news, i, i+1)
		to := s.nodes[d.to]
		if !to.alive {
			continue
		}
		if d.gone {
			delete(to.view, d.from)
		} else {
			to.view[d.from] = d.phase
		}
		s.look(d.to)
		check()
	}
}

// start brings a node up: it learns of the others, then says that it is ready.
func (s *sim) start(name string) {
	n := s.nodes[name]
	n.alive, n.phase = true, observed.Starting
	clear(n.view)
	clear(n.wire)
	for _, other := range s.names() {
		if other != name && s.hears(name, other) {
			n.view[other] = s.nodes[other].phase
		}
	}
	s.look(name)
	n.phase = observed.Ready
	s.look(name)
	s.tell(name)
}

// stop ends a node without a word.
func (s *sim) stop(name string) {
	s.nodes[name].alive = false
	clear(s.nodes[name].wire)
	s.look(name) // so that a later start has the whole difference
	clear(s.nodes[name].wire)
	s.tell(name)
}

func (s *sim) announcers(a netip.Addr) (names []string) {
	for _, name := range s.names() {
		if _, ok := s.nodes[name].wire[a]; ok {
			names = append(names, name)
		}
	}
	return names
}

// checkOwners checks that, when all news have arrived, each side of the
// network has exactly one node that announces each address.
func (s *sim) checkOwners(when string) {
	sides := map[int][]string{}
	for _, name := range s.names() {
		if s.nodes[name].alive && s.nodes[name].phase != observed.Draining {
			sides[s.side[name]] = append(sides[s.side[name]], name)
		}
	}
	for k := range simServices {
		owners := map[int][]string{}
		for _, name := range s.announcers(simAddress(k)) {
			owners[s.side[name]] = append(owners[s.side[name]], name)
		}
		for side, nodes := range sides {
			if len(owners[side]) != 1 {
				s.t.Fatalf("%s: %s is announced by %v among %v", when, simAddress(k), owners[side], nodes)
			}
		}
	}
}

// checkNoGap returns a check that no address is silent.
func (s *sim) checkNoGap(when string) func() {
	return func() {
		for k := range simServices {
			if len(s.announcers(simAddress(k))) == 0 {
				s.t.Fatalf("%s: nobody announces %s", when, simAddress(k))
			}
		}
	}
}

func (s *sim) alive() (names []string) {
	return slices.DeleteFunc(s.names(), func(n string) bool { return !s.nodes[n].alive })
}

// owners is who announces what, to see what moved.
func (s *sim) owners() map[netip.Addr]string {
	all := map[netip.Addr]string{}
	for k := range simServices {
		all[simAddress(k)] = fmt.Sprint(s.announcers(simAddress(k)))
	}
	return all
}

// TestSimulation runs drawn histories of speakers that die, come back, drain
// and lose each other.
func TestSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSim(t)
		for _, name := range s.names() {
			s.start(name)
			s.deliver(func() {})
		}
		s.checkOwners("at first")
		for range rapid.IntRange(1, 8).Draw(t, "events") {
			s.event()
		}
		clear(s.side)
		for _, name := range s.alive() {
			s.tell(name)
		}
		s.deliver(func() {})
		s.checkOwners("after healing")
		s.checkFresh()
	})
}

func (s *sim) event() {
	name := rapid.SampledFrom(s.names()).Draw(s.t, "node")
	n := s.nodes[name]
	partitioned := len(s.side) > 0
	switch what := rapid.SampledFrom([]string{"fail", "drain", "partition", "heal"}).Draw(s.t, "what"); {
	case !n.alive:
		check := s.checkNoGap(name + " starts")
		if len(s.alive()) == 0 || partitioned {
			check = func() {}
		}
		s.start(name)
		s.deliver(check)
	case what == "fail" && len(s.alive()) > 1:
		s.fail(name)
	case what == "drain" && len(s.alive()) > 1 && !partitioned:
		n.phase = observed.Draining
		s.look(name)
		s.tell(name)
		s.deliver(s.checkNoGap(name + " drains"))
		s.stop(name)
		s.deliver(s.checkNoGap(name + " has drained"))
	case what == "partition":
		for _, x := range s.names() {
			s.side[x] = rapid.IntRange(1, 2).Draw(s.t, "side")
		}
		for _, x := range s.alive() {
			s.tell(x)
		}
		s.deliver(func() {})
	case what == "heal" && partitioned:
		clear(s.side)
		for _, x := range s.alive() {
			s.tell(x)
		}
		s.deliver(s.checkNoGap("healing"))
	}
	s.checkOwners("after an event")
}

// fail ends a node; what others announce may not move.
func (s *sim) fail(name string) {
	before := s.owners()
	own := maps.Clone(s.nodes[name].wire)
	s.stop(name)
	s.deliver(func() {})
	for a, who := range s.owners() {
		if _, ok := own[a]; !ok && who != before[a] {
			s.t.Fatalf("%s moved from %s to %s when %s failed", a, before[a], who, name)
		}
	}
}

// checkFresh compares with a cluster that never saw anything but the end.
func (s *sim) checkFresh() {
	fresh := newSim(s.t)
	for _, name := range s.alive() {
		fresh.nodes[name].alive, fresh.nodes[name].phase = true, observed.Ready
	}
	for _, name := range s.alive() {
		for _, other := range s.alive() {
			if other != name {
				fresh.nodes[name].view[other] = observed.Ready
			}
		}
		fresh.look(name)
	}
	for a, who := range fresh.owners() {
		if got := s.owners()[a]; got != who {
			s.t.Fatalf("%s is announced by %s, in a fresh cluster by %s", a, got, who)
		}
	}
}
