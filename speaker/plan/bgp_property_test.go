package plan_test

import (
	"cmp"
	"net/netip"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
	"github.com/heraldlb/herald/speaker/plan/plantest"
)

// The rules of BGP by the letter and without any cleverness: who hears what of
// whom.

// carries tells whether a peer's session carries addresses like a.
func carries(p *config.Peer, a netip.Addr) bool {
	switch {
	case p.DualStack, p.Interface != "":
		return true
	case p.Prefix.IsValid():
		return p.Prefix.Addr().Is4() == a.Is4()
	}
	return p.Address.Is4() == a.Is4()
}

func hears(p *config.Peer, ad *config.BGPAdvertisement, n observed.Node) bool {
	return config.Matches(p.NodeSelectors, n.Labels) && (len(ad.Peers) == 0 || slices.Contains(ad.Peers, p.Name))
}

// contributing are the advertisements that a node uses for a Service, or why it
// does not use any.
func contributing(w plan.World, s plan.Service, n observed.Node) (ads []*config.BGPAdvertisement, why reason.Reason) {
	if !w.Synced && !w.Ready {
		return nil, reason.Starting
	}
	if s.BadIngress {
		return nil, reason.InvalidAddress
	}
	if len(s.Addresses) == 0 {
		return nil, reason.NoAddress
	}
	pool := w.Config.PoolOf(s.Addresses, s.Pool)
	if pool == nil {
		return nil, reason.AddressNotAllowed
	}
	four := slices.ContainsFunc(s.Addresses, netip.Addr.Is4)
	six := slices.ContainsFunc(s.Addresses, netip.Addr.Is6)
	why = reason.NodeNotSelected
	var matching []*config.BGPAdvertisement
	for _, ad := range pool.BGP {
		if !config.Matches(ad.NodeSelectors, n.Labels) {
			continue
		}
		if why == reason.NodeNotSelected {
			why = reason.NoAdvertisement
		}
		if config.Matches(ad.ServiceSelectors, s.Labels) {
			why = reason.UnknownCommunity
			matching = append(matching, ad)
		}
	}
	for _, a := range matching {
		for _, b := range matching {
			if _, yes := config.Conflicts(a, b, four, six); yes {
				return nil, reason.ConflictingAdvertisements
			}
		}
		deaf := a.ServiceMay.Has(config.ServiceCommunities) && slices.Contains(s.BGP.Communities, "lead")
		if len(a.UnknownCommunities) == 0 && !deaf {
			ads = append(ads, a)
		}
	}
	switch {
	case len(ads) == 0:
		return nil, why
	case n.NetworkUnavailable:
		return nil, reason.NodeNetworkUnavailable
	case n.Excluded && !w.IgnoreExclude:
		return nil, reason.NodeExcluded
	case !s.Endpoints.Any:
		return nil, reason.NoEndpoints
	case s.Local && s.Endpoints.Nodes[n.Name] == 0:
		return nil, reason.NoLocalEndpoints
	}
	return ads, ""
}

// peersFor are the names of the peers that a node tells of a Service.
func peersFor(w plan.World, s plan.Service, n observed.Node) (names []string, why reason.Reason) {
	ads, why := contributing(w, s, n)
	if why != "" {
		return nil, why
	}
	for _, p := range w.Config.Peers {
		if slices.ContainsFunc(ads, func(ad *config.BGPAdvertisement) bool { return hears(p, ad, n) }) &&
			slices.ContainsFunc(s.Addresses, func(a netip.Addr) bool { return carries(p, a) }) {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil, reason.NoPeer
	}
	return names, reason.Advertised
}

func TestWhoAdvertisesWhat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		said := map[string]plan.State{}
		for _, n := range w.Nodes {
			said[n.Name] = on(w, n.Name)
		}
		for _, s := range w.Services {
			if _, bgp := meant(w, s); !bgp {
				continue
			}
			var advertisers []desired.Advertiser
			reasons := map[reason.Reason]bool{}
			for _, n := range w.Nodes {
				d := decisionOver(said[n.Name], s, desired.BGP)
				peers, why := peersFor(w, s, n)
				if d.Reason != why || !slices.Equal(d.Peers, peers) {
					t.Fatalf("%s on %s: %s to %v, want %s to %v", s.Key, n.Name, d.Reason, d.Peers, why, peers)
				}
				alive := slices.ContainsFunc(w.Members.Members, func(m observed.Member) bool { return m.Node == n.Name })
				if !w.Members.Enabled || alive {
					reasons[d.Reason] = true
					if d.Announce {
						advertisers = append(advertisers, desired.Advertiser{Node: n.Name, Peers: d.Peers})
					}
				}
			}
			slices.SortFunc(advertisers, func(a, b desired.Advertiser) int { return cmp.Compare(a.Node, b.Node) })
			for _, n := range w.Nodes {
				d := decisionOver(said[n.Name], s, desired.BGP)
				if !d.Reports {
					continue
				}
				if diff := gocmp.Diff(advertisers, d.Advertisers, cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("%s: advertisers that %s names (-want +got):\n%s", s.Key, n.Name, diff)
				}
				if len(advertisers) == 0 && !reasons[d.Outcome.Reason] {
					t.Fatalf("%s: %s tells %+v, but what the nodes say is %v", s.Key, n.Name, d.Outcome, reasons)
				}
			}
		}
	})
}

// naive is a route that is being put together.
type naive struct {
	desired.Attributes
	of *plan.Service // who said what it says
	// weights are by Service.
	weights map[string]int
}

// naiveRoutes are what the peers of a node are told.
func naiveRoutes(w plan.World, n observed.Node) desired.BGPRoutes {
	services := slices.Clone(w.Services)
	plan.NewGroup(services) // oldest first
	all := map[string]map[netip.Prefix]*naive{}
	for i := range services {
		s := &services[i]
		ads, _ := contributing(w, *s, n)
		for _, a := range s.Addresses {
			for _, ad := range ads {
				bits := ad.AggregationLength
				if a.Is6() {
					bits = ad.AggregationLengthV6
				}
				for _, p := range w.Config.Peers {
					if !hears(p, ad, n) || !carries(p, a) {
						continue
					}
					if all[p.Name] == nil {
						all[p.Name] = map[netip.Prefix]*naive{}
					}
					prefix := netip.PrefixFrom(a, bits).Masked()
					r := all[p.Name][prefix]
					if r == nil {
						r = &naive{of: s, weights: map[string]int{}}
						r.LocalPref, r.MED, r.Prepend = ad.LocalPref, ad.MED, ad.Prepend
						all[p.Name][prefix] = r
					}
					r.add(w, ad, s, n)
				}
			}
		}
	}
	out := desired.BGPRoutes{}
	for peer, routes := range all {
		out[peer] = desired.Routes{}
		for prefix, r := range routes {
			for _, n := range r.weights {
				r.Weight += n
			}
			slices.SortFunc(r.Communities, config.Community.Compare)
			r.Communities = slices.Compact(r.Communities)
			out[peer][prefix] = &r.Attributes
		}
	}
	return out
}

func (r *naive) add(w plan.World, ad *config.BGPAdvertisement, s *plan.Service, n observed.Node) {
	r.Communities = append(r.Communities, ad.Communities...)
	if ad.ServiceMay.Has(config.ServiceCommunities) {
		for _, text := range s.BGP.Communities {
			c, err := w.Config.Community(text)
			if err != nil {
				panic(err)
			}
			r.Communities = append(r.Communities, c)
		}
	}
	if ad.WeightByEndpoints && s.Local {
		r.weights[s.Key.Name] = s.Endpoints.Nodes[n.Name]
	}
	if r.of != s {
		return
	}
	if s.BGP.LocalPref != nil && ad.ServiceMay.Has(config.ServiceLocalPref) {
		r.LocalPref = *s.BGP.LocalPref
	}
	if s.BGP.MED != nil && ad.ServiceMay.Has(config.ServiceMED) {
		r.MED = s.BGP.MED
	}
	if s.BGP.Prepend != nil && ad.ServiceMay.Has(config.ServicePrepend) {
		r.Prepend = *s.BGP.Prepend
	}
}

func TestRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		for _, n := range w.Nodes {
			want, got := naiveRoutes(w, n), on(w, n.Name).BGP
			if diff := gocmp.Diff(want, got, prefixes, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("routes of %s (-want +got):\n%s", n.Name, diff)
			}
		}
	})
}

var prefixes = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

// BGP is a matter of one node: that others come, go or drain changes nothing,
// and it does not wait until the ring is settled.
func TestRingDecidesNothingOverBGP(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := plantest.World(t)
		w.Synced = true
		before := on(w, "node-a")
		w.Members, w.Ready = plantest.Members(t), rapid.Bool().Draw(t, "ready after")
		after := on(w, "node-a")
		if diff := gocmp.Diff(before.BGP, after.BGP, prefixes); diff != "" {
			t.Fatalf("the ring changed the routes:\n%s", diff)
		}
		for _, s := range w.Services {
			a, b := decisionOver(before, s, desired.BGP), decisionOver(after, s, desired.BGP)
			if a.Reason != b.Reason || a.Message != b.Message {
				t.Fatalf("%s: the ring changed %q to %q", s.Key, a.Message, b.Message)
			}
		}
	})
}
