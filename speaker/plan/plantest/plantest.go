// Package plantest draws random worlds for the property tests of packages plan
// and index. Only tests import it.
//
// Its worlds are small and full of collisions: few addresses and many Services
// that want them, nodes in every state, advertisements with every selector.
package plantest

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// Nodes, Services and Addresses bound the worlds.
const (
	Nodes     = 6
	Services  = 8
	Addresses = 7
)

// Address is one of the addresses of these worlds: IPv4 ones in pool p0, the
// IPv6 ones too, and the last one in no pool.
func Address(i int) netip.Addr {
	return netip.MustParseAddr([Addresses]string{
		"10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "fd00::2", "10.0.1.1", "192.0.2.1",
	}[i])
}

func zone(s string) labels.Selector { return labels.SelectorFromSet(labels.Set{"zone": s}) }

// World draws a world.
func World(t *rapid.T) plan.World {
	w := plan.World{Self: NodeName(0)}
	w.Facts = plan.Facts{
		Ready:         rapid.IntRange(0, 9).Draw(t, "ready") > 0,
		Synced:        rapid.IntRange(0, 9).Draw(t, "synced") > 0,
		Config:        Config(t),
		Members:       Members(t),
		IgnoreExclude: rapid.Bool().Draw(t, "ignoreExclude"),
	}
	for i := range rapid.IntRange(1, Nodes).Draw(t, "nodes") {
		w.Nodes = append(w.Nodes, Node(t, NodeName(i)))
	}
	for i := range rapid.IntRange(0, Services).Draw(t, "services") {
		w.Services = append(w.Services, Service(t, i))
	}
	return w
}

// NodeName names node i.
func NodeName(i int) string { return fmt.Sprintf("node-%c", 'a'+i) }

// Node draws the state of a node.
func Node(t *rapid.T, name string) observed.Node {
	return observed.Node{
		Name:               name,
		Labels:             map[string]string{"zone": rapid.SampledFrom([]string{"east", "west"}).Draw(t, "zone")},
		NetworkUnavailable: rapid.IntRange(0, 7).Draw(t, "unavailable") == 0,
		NotReady:           rapid.IntRange(0, 3).Draw(t, "notReady") == 0,
		Excluded:           rapid.IntRange(0, 7).Draw(t, "excluded") == 0,
	}
}

// Members draws a membership ring.
func Members(t *rapid.T) observed.Members {
	m := observed.Members{Enabled: rapid.IntRange(0, 9).Draw(t, "membership") > 0, Settled: true}
	for i := range Nodes {
		if rapid.IntRange(0, 5).Draw(t, "alive") > 0 {
			m.Members = append(m.Members, Member(t, NodeName(i)))
		}
	}
	return m
}

// Member draws a member.
func Member(t *rapid.T, name string) observed.Member {
	phase := rapid.SampledFrom([]observed.Phase{
		observed.Ready, observed.Ready, observed.Ready, observed.Restarting, observed.Gathering, observed.Starting, observed.Draining,
	}).Draw(t, "phase")
	m := observed.Member{Node: name, Phase: phase, Known: rapid.IntRange(0, 7).Draw(t, "known") > 0}
	for _, name := range []string{"eth0", "eth1"} {
		if m.Known && rapid.IntRange(0, 3).Draw(t, "has "+name) > 0 {
			carrier := rapid.IntRange(0, 3).Draw(t, "carrier") > 0
			m.Interfaces = append(m.Interfaces, observed.Interface{
				Name: name, Carrier: carrier,
				IPv4: carrier && rapid.IntRange(0, 5).Draw(t, "IPv4") > 0,
				IPv6: carrier && rapid.IntRange(0, 5).Draw(t, "IPv6") > 0,
			})
		}
	}
	return m
}

// Service draws the state of Service i.
func Service(t *rapid.T, i int) plan.Service {
	s := &service.Service{
		Key:           service.Key{Namespace: "default", Name: fmt.Sprintf("svc-%d", i)},
		Created:       time.Unix(int64(rapid.IntRange(0, 3).Draw(t, "created")), 0),
		Labels:        map[string]string{"zone": rapid.SampledFrom([]string{"east", "west"}).Draw(t, "label")},
		LoadBalancer:  true,
		Local:         rapid.IntRange(0, 2).Draw(t, "local") == 0,
		AllowsSharing: rapid.IntRange(0, 3).Draw(t, "sharing") == 0,
		BadIngress:    rapid.IntRange(0, 15).Draw(t, "bad") == 0,
	}
	for _, a := range rapid.SliceOfN(rapid.IntRange(0, Addresses-1), 0, 2).Draw(t, "addresses") {
		if !slices.Contains(s.Addresses, Address(a)) {
			s.Addresses = append(s.Addresses, Address(a))
		}
	}
	s.BGP = wishes(t)
	return plan.Service{Service: s, Endpoints: Endpoints(t)}
}

// Endpoints draws where a Service can be served.
func Endpoints(t *rapid.T) service.Endpoints {
	e := service.Endpoints{Nodes: map[string]int{}}
	for i := range Nodes {
		if rapid.IntRange(0, 2).Draw(t, "endpoint") == 0 {
			e.Any, e.Nodes[NodeName(i)] = true, rapid.IntRange(1, 3).Draw(t, "endpoints")
		}
	}
	if !e.Any {
		e.Any = rapid.Bool().Draw(t, "endpoint nowhere")
	}
	return e
}

// Config draws a configuration.
func Config(t *rapid.T) *config.Snapshot {
	s := &config.Snapshot{Pools: []*config.Pool{
		{Name: "p0", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}},
		{Name: "p1", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}},
	}}
	for i := range rapid.IntRange(0, 3).Draw(t, "advertisements") {
		ad := &config.L2Advertisement{Name: fmt.Sprintf("ad-%d", i)}
		if z := rapid.SampledFrom([]string{"", "", "east", "west"}).Draw(t, "nodes of"); z != "" {
			ad.NodeSelectors = []labels.Selector{zone(z)}
		}
		if z := rapid.SampledFrom([]string{"", "", "", "east"}).Draw(t, "services of"); z != "" {
			ad.ServiceSelectors = []labels.Selector{zone(z)}
		}
		if n := rapid.SampledFrom([]string{"", "", "eth0", "eth1", "eth7"}).Draw(t, "interface"); n != "" {
			ad.Interfaces = []string{n}
		}
		if z := rapid.SampledFrom([]string{"", "east", "west"}).Draw(t, "prefers"); z != "" {
			ad.Preferences = []config.Preference{{Weight: int32(rapid.IntRange(1, 100).Draw(t, "weight")), Nodes: zone(z)}}
		}
		s.L2Advertisements = append(s.L2Advertisements, ad)
		for _, p := range s.Pools {
			if rapid.IntRange(0, 3).Draw(t, "for pool") > 0 {
				p.L2 = append(p.L2, ad)
			}
		}
	}
	addBGP(t, s)
	return config.NewSnapshot(*s)
}
