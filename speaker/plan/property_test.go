package plan_test

import (
	"crypto/sha256"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
	"github.com/heraldlb/herald/speaker/plan/plantest"
)

var addresses = cmpopts.EquateComparable(netip.Addr{})

// on computes the plan of one node.
func on(w plan.World, node string) plan.State {
	w.Self = node
	return plan.Compute(w)
}

// may tells, by the letter of the rules and without any cleverness, whether a
// node may serve a Service.
func may(w plan.World, s plan.Service, n observed.Node) (ok bool, score int) {
	if !w.Ready || s.BadIngress || len(s.Addresses) == 0 || !s.Endpoints.Any {
		return false, 0
	}
	if s.Local && s.Endpoints.Nodes[n.Name] == 0 || n.NetworkUnavailable || n.Excluded && !w.IgnoreExclude {
		return false, 0
	}
	pool := w.Config.PoolOf(s.Addresses, s.Pool)
	if pool == nil {
		return false, 0
	}
	var member observed.Member
	for _, m := range w.Members.Members {
		if m.Node == n.Name {
			member = m
		}
	}
	candidate := member.Phase == observed.Ready || member.Phase == observed.Restarting || member.Phase == observed.Gathering
	if w.Members.Enabled && (!candidate || !member.Known) {
		return false, 0
	}
	selected, four, six := false, false, false
	for _, ad := range pool.L2 {
		if !config.Matches(ad.ServiceSelectors, s.Labels) {
			continue
		}
		if s.AllowsSharing && len(ad.ServiceSelectors) > 0 {
			return false, 0
		}
		if !config.Matches(ad.NodeSelectors, n.Labels) {
			continue
		}
		for _, i := range member.Interfaces {
			if i.Carrier && (len(ad.Interfaces) == 0 || slices.Contains(ad.Interfaces, i.Name)) {
				four, six = four || i.IPv4, six || i.IPv6
			}
		}
		if !w.Members.Enabled {
			four, six = true, true
		}
		selected = true
		score += weight(ad, n)
	}
	for _, a := range s.Addresses {
		if a.Is4() && !four || a.Is6() && !six {
			return false, 0
		}
	}
	if n.NotReady && !w.Members.Enabled {
		score -= 1 << 30 // the last resort
	}
	return selected, score
}

func weight(ad *config.L2Advertisement, n observed.Node) (sum int) {
	for _, p := range ad.Preferences {
		if p.Nodes.Matches(labels.Set(n.Labels)) {
			sum += int(p.Weight)
		}
	}
	return sum
}

func TestOwnership(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		states := map[string]plan.State{}
		for _, n := range w.Nodes {
			states[n.Name] = on(w, n.Name)
		}
		owner := map[netip.Addr]string{}
		for node, s := range states {
			for a := range s.L2 {
				if owner[a] != "" {
					t.Fatalf("both %s and %s announce %s", owner[a], node, a)
				}
				owner[a] = node
			}
		}
		for _, g := range plan.Groups(w.Services) {
			checkGroup(t, w, g, states, owner)
		}
	})
}

// checkGroup checks that all nodes name the same owner, that there is one if
// any node may serve any Service of the group, and that no other node could
// serve more of them.
func checkGroup(t *rapid.T, w plan.World, g plan.Group, states map[string]plan.State, owner map[netip.Addr]string) {
	serves := map[string]int{}
	for _, n := range w.Nodes {
		for _, s := range g {
			if ok, _ := may(w, s, n); ok {
				serves[n.Name]++
			}
		}
	}
	named := ""
	for node, st := range states {
		for _, s := range g {
			d := decisionOn(st, s)
			if named == "" {
				named = d.Owner
			}
			if d.Owner != named {
				t.Fatalf("%s: %s says that %q owns it, another node says %q", s.Key, node, d.Owner, named)
			}
		}
	}
	if (named == "") != (len(serves) == 0) {
		t.Fatalf("owner %q, nodes that may serve: %v", named, serves)
	}
	for n, k := range serves {
		if k > serves[named] {
			t.Fatalf("%s owns and may serve %d, but %s may serve %d", named, serves[named], n, k)
		}
	}
	for _, s := range g {
		for _, a := range s.Holds() {
			if owner[a] != "" && owner[a] != named {
				t.Fatalf("%s is announced by %s, its group is owned by %q", a, owner[a], named)
			}
		}
	}
}

// decisionOn is the Decision over layer 2, the zero value if there is none.
func decisionOn(s plan.State, of plan.Service) desired.Decision {
	return decisionOver(s, of, desired.Layer2)
}

func decisionOver(s plan.State, of plan.Service, p desired.Protocol) (d desired.Decision) {
	i := slices.IndexFunc(s.Decisions, func(d desired.Decision) bool { return d.Service == of.Key && d.Protocol == p })
	if i >= 0 {
		d = s.Decisions[i]
	}
	return d
}

// A Service that is tied to no other goes to the eligible node with the
// highest score and the smallest digest.
func TestWinnerOfLoneServices(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		state := on(w, "node-a")
		for _, g := range plan.Groups(w.Services) {
			if len(g) > 1 {
				continue
			}
			want, best := "", math.MinInt
			var digest [32]byte
			for _, n := range w.Nodes {
				ok, score := may(w, g[0], n)
				if !ok {
					continue
				}
				d := sha256.Sum256([]byte(n.Name + "#" + g[0].Addresses[0].String()))
				if score > best || score == best && slices.Compare(d[:], digest[:]) < 0 {
					want, best, digest = n.Name, score, d
				}
			}
			if got := decisionOn(state, g[0]).Owner; got != want {
				t.Fatalf("%s: owner %q, want %q", g[0].Key, got, want)
			}
		}
	})
}

// meant tells over which protocols there is something to say of a Service.
func meant(w plan.World, s plan.Service) (layer2, bgp bool) {
	l2, b := len(w.Config.L2Advertisements), len(w.Config.BGPAdvertisements)
	if !s.BadIngress && len(s.Addresses) > 0 {
		if pool := w.Config.PoolOf(s.Addresses, s.Pool); pool != nil {
			l2, b = len(pool.L2), len(pool.BGP)
		}
	}
	return l2 > 0 || b == 0, b > 0
}

func TestEveryServiceHasOneReason(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		reporters := map[service.Key][]string{}
		for _, n := range w.Nodes {
			state := on(w, n.Name)
			count := 0
			for _, s := range w.Services {
				layer2, bgp := meant(w, s)
				l2, b := decisionOn(state, s), decisionOver(state, s, desired.BGP)
				if (l2.Reason != "") != layer2 || (b.Reason != "") != bgp {
					t.Fatalf("%s on %s: layer 2 %v, BGP %v; want %v, %v", s.Key, n.Name, l2, b, layer2, bgp)
				}
				if layer2 && bgp && l2.Reports != b.Reports {
					t.Fatalf("%s on %s: reports over one protocol alone: %+v %+v", s.Key, n.Name, l2, b)
				}
				if l2.Reports || b.Reports {
					reporters[s.Key] = append(reporters[s.Key], n.Name)
				}
				for _, has := range []bool{layer2, bgp} {
					if has {
						count++
					}
				}
			}
			if len(state.Decisions) != count {
				t.Fatalf("%d decisions, want %d", len(state.Decisions), count)
			}
			for _, d := range state.Decisions {
				checkDecision(t, n.Name, d)
			}
		}
		checkReporters(t, w, reporters)
	})
}

// checkDecision checks what holds for any Decision by itself.
func checkDecision(t *rapid.T, node string, d desired.Decision) {
	if d.Reason.Sentence() == "" || d.Message == "" {
		t.Fatalf("%s on %s: reason %q is not in the catalogue, or has no message %q", d.Service, node, d.Reason, d.Message)
	}
	positive, l2 := reason.Advertised, d.Protocol == desired.Layer2
	if l2 {
		positive = reason.Elected
	}
	switch {
	case d.Announce != (d.Reason == positive),
		l2 && d.Announce && d.Owner != node,
		l2 && (d.Peers != nil || d.Advertisers != nil || d.Outcome != desired.Outcome{}),
		!l2 && (d.Owner != "" || d.Interfaces != nil),
		!l2 && d.Announce != (len(d.Peers) > 0),
		!l2 && !d.Reports && (d.Advertisers != nil || d.Outcome != desired.Outcome{}),
		!l2 && d.Reports && (len(d.Advertisers) == 0) != (d.Outcome.Reason != "" && d.Outcome.Message != ""):
		t.Fatalf("%s on %s contradicts itself: %+v", d.Service, node, d)
	}
}

// checkReporters checks that one node tells of each Service, and the right one.
func checkReporters(t *rapid.T, w plan.World, reporters map[service.Key][]string) {
	voices := voices(w)
	state, first := on(w, w.Nodes[0].Name), plan.Compile(w.Facts).Reporter()
	for _, s := range w.Services {
		layer2, _ := meant(w, s)
		owner := decisionOn(state, s).Owner
		switch n := reporters[s.Key]; {
		case len(n) > 1:
			t.Fatalf("%v report on %s", n, s.Key)
		case owner != "" && !slices.Equal(n, []string{owner}):
			t.Fatalf("%v reports on %s, want its owner %s", n, s.Key, owner)
		case owner == "" && len(n) == 1 && !slices.Contains(voices, n[0]):
			t.Fatalf("%v reports on %s, want one of %v", n, s.Key, voices)
		case !layer2 && len(n) == 1 && n[0] != first:
			t.Fatalf("%v reports on %s, want the first, %s", n, s.Key, first)
		case owner == "" && len(n) == 0 && w.Ready && len(voices) > 0:
			t.Fatalf("nobody reports on %s, want one of %v", s.Key, voices)
		case len(n) > 0 && !w.Ready:
			t.Fatalf("%v reports on %s while starting", n, s.Key)
		}
	}
	if (first == "") != (len(voices) == 0) || first != "" && first != slices.Min(voices) {
		t.Fatalf("%q tells for all, want the first of %v", first, voices)
	}
}

// voices are the nodes whose speakers know the cluster.
func voices(w plan.World) (names []string) {
	for _, n := range w.Nodes {
		if !w.Members.Enabled || slices.ContainsFunc(w.Members.Members, func(m observed.Member) bool {
			return m.Node == n.Name && (m.Phase == observed.Ready || m.Phase == observed.Restarting)
		}) {
			names = append(names, n.Name)
		}
	}
	return names
}

func TestOrderOfInputIsIrrelevant(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		want := plan.Compute(w)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		r.Shuffle(len(w.Services), func(i, j int) { w.Services[i], w.Services[j] = w.Services[j], w.Services[i] })
		r.Shuffle(len(w.Nodes), func(i, j int) { w.Nodes[i], w.Nodes[j] = w.Nodes[j], w.Nodes[i] })
		m := w.Members.Members
		r.Shuffle(len(m), func(i, j int) { m[i], m[j] = m[j], m[i] })
		if diff := cmp.Diff(want, plan.Compute(w), addresses); diff != "" {
			t.Fatalf("another order, another plan (-first +shuffled):\n%s", diff)
		}
	})
}

func TestRemovingAnotherNodeMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		gone := rapid.SampledFrom(w.Nodes).Draw(t, "gone").Name
		before := on(w, "node-a")
		for _, way := range []string{"node", "member"} {
			v := w
			if way == "node" {
				v.Nodes = slices.DeleteFunc(slices.Clone(w.Nodes), func(n observed.Node) bool { return n.Name == gone })
			} else {
				v.Members.Members = slices.DeleteFunc(slices.Clone(w.Members.Members), func(m observed.Member) bool { return m.Node == gone })
			}
			after := on(v, "node-a")
			for i, d := range before.Decisions {
				if d.Owner != gone && after.Decisions[i].Owner != d.Owner {
					t.Fatalf("%s moved from %q to %q when the %s %s left", d.Service, d.Owner, after.Decisions[i].Owner, way, gone)
				}
			}
		}
	})
}

func TestWhoAnnouncesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		for _, n := range w.Nodes {
			var m observed.Member
			for _, x := range w.Members.Members {
				if x.Node == n.Name {
					m = x
				}
			}
			out := !w.Ready || n.NetworkUnavailable || n.Excluded && !w.IgnoreExclude ||
				w.Members.Enabled && (m.Node == "" || m.Phase == observed.Starting || m.Phase == observed.Draining || !m.Known)
			if l2 := on(w, n.Name).L2; out && len(l2) > 0 {
				t.Fatalf("%s announces %v, but it is excluded, unavailable, not alive, starting or draining: %+v %+v", n.Name, l2, n, m)
			}
		}
	})
}

func TestFactsAreNotChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		services := slices.Clone(w.Services)
		nodes := slices.Clone(w.Nodes)
		plan.Compute(w)
		plan.Compute(w)
		if diff := cmp.Diff(services, w.Services, addresses); diff != "" {
			t.Fatalf("Compute changed its Services:\n%s", diff)
		}
		if diff := cmp.Diff(nodes, w.Nodes); diff != "" {
			t.Fatalf("Compute changed its nodes:\n%s", diff)
		}
	})
}
