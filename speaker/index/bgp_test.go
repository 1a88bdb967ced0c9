package index_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/index"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// rack is a configuration with two peers, and advertisements of both protocols
// if asked for.
func rack(layer2, bgp bool) *config.Snapshot {
	pool := &config.Pool{Name: "pool", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	s := config.Snapshot{Pools: []*config.Pool{pool}}
	for i := range 2 {
		s.Peers = append(s.Peers, &config.Peer{Name: []string{"tor-1", "tor-2"}[i], Address: netip.AddrFrom4([4]byte{172, 16, 0, byte(i)})})
	}
	if layer2 {
		pool.L2 = []*config.L2Advertisement{{Name: "l2"}}
		s.L2Advertisements = pool.L2
	}
	if bgp {
		pool.BGP = []*config.BGPAdvertisement{{Name: "bgp", AggregationLength: 32, AggregationLengthV6: 128}}
		s.BGPAdvertisements = pool.BGP
	}
	return config.NewSnapshot(s)
}

// verdicts writes decisions by protocol.
func verdicts(c index.Change) map[desired.Protocol]reason.Reason {
	all := map[desired.Protocol]reason.Reason{}
	for _, d := range c.Decisions {
		all[d.Protocol] = d.Reason
	}
	return all
}

func TestBGPDoesNotWaitForTheRing(t *testing.T) {
	x := index.New(nodeName(1), false)
	x.SetConfig(rack(true, true))
	x.SetNode(observed.Node{Name: nodeName(1)})
	x.Set(serviceAt(1, 1))
	x.SetMembers(observed.Members{Enabled: true})

	c := x.Flush()
	if diff := cmp.Diff(map[desired.Protocol]reason.Reason{desired.Layer2: reason.Starting, desired.BGP: reason.Starting}, verdicts(c)); diff != "" || len(c.BGP) > 0 {
		t.Errorf("before anything is known: routes %v, decisions (-want +got):\n%s", c.BGP, diff)
	}
	x.SetSynced(true)
	c = x.Flush()
	if diff := cmp.Diff(map[desired.Protocol]reason.Reason{desired.BGP: reason.Advertised}, verdicts(c)); diff != "" {
		t.Errorf("with the objects known (-want +got):\n%s", diff)
	}
	if len(c.BGP["tor-1"].Announce) != 1 || len(c.BGP["tor-2"].Announce) != 1 || len(c.L2.Announce) > 0 {
		t.Errorf("with the objects known, changes %+v; want a route to each peer, and nothing over layer 2", c)
	}
	if slices.ContainsFunc(c.Decisions, func(d desired.Decision) bool { return d.Reports }) {
		t.Error("a node that does not know the ring reports")
	}
	x.SetMembers(ring(2))
	x.SetReady(true)
	c = x.Flush()
	if len(c.BGP) > 0 || len(c.L2.Announce)+len(verdicts(c)) == 0 {
		t.Errorf("with the ring settled: %+v; want no change of routes, and a decision over layer 2", c)
	}
}

func TestDecisionsComeAndGoWithTheirAdvertisements(t *testing.T) {
	x := index.New(nodeName(0), false)
	for i := range 2 {
		x.SetNode(observed.Node{Name: nodeName(i)})
	}
	x.SetMembers(ring(2))
	x.SetReady(true)
	s := serviceAt(1, 1)
	x.Set(s)
	for _, step := range []struct {
		layer2, bgp bool
		dropped     []desired.Subject
		routes      int
	}{
		{true, false, nil, 0},
		{true, true, nil, 1},
		{false, true, []desired.Subject{{Service: s.Key, Protocol: desired.Layer2}}, 1},
		{false, false, []desired.Subject{{Service: s.Key, Protocol: desired.BGP}}, 0},
		{true, true, nil, 1},
		{true, false, []desired.Subject{{Service: s.Key, Protocol: desired.BGP}}, 0},
	} {
		x.SetConfig(rack(step.layer2, step.bgp))
		c := x.Flush()
		if diff := cmp.Diff(step.dropped, c.Dropped); diff != "" {
			t.Errorf("layer 2 %t, BGP %t: dropped (-want +got):\n%s", step.layer2, step.bgp, diff)
		}
		if _, ok := x.Decision(s.Key, desired.BGP); ok != step.bgp {
			t.Errorf("layer 2 %t, BGP %t: there is a decision over BGP: %t", step.layer2, step.bgp, ok)
		}
		if got := len(x.BGP()["tor-1"]); got != step.routes {
			t.Errorf("layer 2 %t, BGP %t: %d routes, want %d", step.layer2, step.bgp, got, step.routes)
		}
	}
	x.Delete(s.Key)
	if c := x.Flush(); len(c.Dropped) > 0 || !slices.Contains(c.Removed, s.Key) {
		t.Errorf("the Service is gone: dropped %v, removed %v", c.Dropped, c.Removed)
	}
}

// A Service that is deleted and made anew between two flushes is removed for
// nobody, and yet what was said of the old one is not left standing.
func TestServiceMadeAnewBetweenFlushes(t *testing.T) {
	x := index.New(nodeName(0), false)
	x.SetNode(observed.Node{Name: nodeName(0)})
	x.SetConfig(rack(true, true))
	x.SetMembers(ring(1))
	x.SetReady(true)
	s := serviceAt(1, 1)
	x.Set(s)
	x.Flush()
	x.Delete(s.Key)
	x.Set(s)
	x.SetConfig(rack(true, false))
	c := x.Flush()
	if diff := cmp.Diff([]desired.Subject{{Service: s.Key, Protocol: desired.BGP}}, c.Dropped); diff != "" || len(c.Removed) > 0 {
		t.Errorf("removed %v, dropped (-want +got):\n%s", c.Removed, diff)
	}
	if len(c.Decisions) != 1 || len(c.BGP["tor-1"].Withdraw) != 1 {
		t.Errorf("decisions %v, routes %v; want the one over layer 2 again, and a withdrawal", c.Decisions, c.BGP)
	}
}

// The advertisers of Services with policy Cluster are one list, and no list is
// made for nodes that do not report.
func TestAdvertisersAreShared(t *testing.T) {
	x := index.New(nodeName(0), false)
	for i := range 50 {
		x.SetNode(observed.Node{Name: nodeName(i)})
	}
	x.SetConfig(rack(false, true))
	x.SetMembers(ring(50))
	x.SetReady(true)
	for i := range 3 {
		x.Set(serviceAt(i, 1))
	}
	decisions := x.Flush().Decisions
	for _, d := range decisions {
		if len(d.Advertisers) != 50 || &d.Advertisers[0] != &decisions[0].Advertisers[0] {
			t.Errorf("%s: %d advertisers, shared %t; want 50, shared", d.Service, len(d.Advertisers), len(d.Advertisers) > 0 && &d.Advertisers[0] == &decisions[0].Advertisers[0])
		}
	}
	x.SetMembers(ring(49))
	if c := x.Flush(); len(c.Decisions) != 3 || len(c.Decisions[0].Advertisers) != 49 || len(c.BGP) > 0 {
		t.Errorf("a node is gone: %d decisions, routes %v; want 3 with 49 advertisers, and no routes", len(c.Decisions), c.BGP)
	}
}

// Of three Services in one aggregate the first and the last offer the same.
// Whoever is the oldest that is left decides.
func TestOldestServiceOfAnAggregateDecides(t *testing.T) {
	ad := &config.BGPAdvertisement{Name: "bgp", AggregationLength: 24, AggregationLengthV6: 128, LocalPref: 100, ServiceMay: config.ServiceLocalPref}
	x := index.New(nodeName(0), false)
	x.SetNode(observed.Node{Name: nodeName(0)})
	x.SetConfig(config.NewSnapshot(config.Snapshot{
		Pools:             []*config.Pool{{Name: "pool", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, BGP: []*config.BGPAdvertisement{ad}}},
		BGPAdvertisements: []*config.BGPAdvertisement{ad},
		Peers:             []*config.Peer{{Name: "tor-1", Address: netip.MustParseAddr("172.16.0.1")}},
	}))
	x.SetSynced(true)
	first, second, third := serviceAt(1, 1), serviceAt(2, 1), serviceAt(3, 1)
	wish := uint32(200)
	second.BGP.LocalPref = &wish

	localPref := func() uint32 {
		x.Flush()
		a := x.BGP()["tor-1"][netip.MustParsePrefix("10.0.0.0/24")]
		if a == nil {
			t.Fatal("the aggregate is not advertised")
		}
		return a.LocalPref
	}
	for _, step := range []struct {
		what string
		do   func()
		want uint32
	}{
		{"all three", func() { x.Set(third); x.Set(second); x.Set(first) }, 100},
		{"the oldest is gone", func() { x.Delete(first.Key) }, 200},
		{"the oldest is back", func() { x.Set(first) }, 100},
		{"the oldest is gone with the second", func() { x.Delete(first.Key); x.Delete(second.Key) }, 100},
		{"the second is back", func() { x.Set(second) }, 200},
		{"the second is alone", func() { x.Delete(third.Key) }, 200},
		{"an older one joins it", func() { x.Set(first) }, 100},
		{"that one is made anew, younger", func() {
			young := *first.Service
			young.Created = third.Created
			x.Set(plan.Service{Service: &young, Endpoints: first.Endpoints})
		}, 200},
	} {
		step.do()
		if got := localPref(); got != step.want {
			t.Errorf("%s: LOCAL_PREF %d, want %d", step.what, got, step.want)
		}
	}
}

// How many endpoints a node has decides nothing but its own weight.
func TestWeightFollowsTheEndpointsOfThisNode(t *testing.T) {
	x := speaking(3, 32) // the endpoints are on this node
	x.Flush()
	same, _ := x.Get(serviceAt(1, 1).Key)
	for _, endpoints := range []int{3, 3, 2} {
		same.Endpoints = localAt(1, endpoints).Endpoints
		x.Set(same)
		c := x.Flush()
		if len(c.Decisions) > 0 || len(c.L2.Announce) > 0 {
			t.Errorf("%d endpoints: decisions %v", endpoints, c.Decisions)
		}
		if got := x.BGP()["tor-0"][netip.MustParsePrefix("10.0.0.1/32")].Weight; got != endpoints {
			t.Errorf("%d endpoints: weight %d", endpoints, got)
		}
	}
	same.Endpoints = localAt(1, 2).Endpoints
	same.Endpoints.Nodes[nodeName(7)] = 5
	x.Set(same)
	if c := x.Flush(); len(c.BGP) > 0 {
		t.Errorf("endpoints elsewhere changed %v", c.BGP)
	}
}
