package index_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/index"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// cluster fills an index with Services, one address each, and nodes.
func cluster(services, nodes int) *index.Index {
	x := index.New(nodeName(0), false)
	x.SetReady(true)
	ad := &config.L2Advertisement{Name: "all"}
	x.SetConfig(config.NewSnapshot(config.Snapshot{
		Pools:            []*config.Pool{{Name: "pool", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, L2: []*config.L2Advertisement{ad}}},
		L2Advertisements: []*config.L2Advertisement{ad},
	}))
	for i := range nodes {
		x.SetNode(observed.Node{Name: nodeName(i)})
	}
	x.SetMembers(ring(nodes))
	for i := range services {
		x.Set(serviceAt(i, 1))
	}
	return x
}

func nodeName(i int) string { return fmt.Sprintf("node-%04d", i) }

func ring(nodes int) observed.Members {
	m := observed.Members{Enabled: true, Settled: true}
	for i := range nodes {
		m.Members = append(m.Members, observed.Member{
			Node: nodeName(i), Phase: observed.Ready, Known: true,
			Interfaces: []observed.Interface{{Name: "eth0", Carrier: true, IPv4: true, IPv6: true}},
		})
	}
	return m
}

func serviceAt(i, endpoints int) plan.Service {
	return plan.Service{
		Service: &service.Service{
			Key:          service.Key{Namespace: "default", Name: fmt.Sprintf("svc-%06d", i)},
			Created:      time.Unix(int64(i), 0),
			LoadBalancer: true,
			Addresses:    []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		},
		Endpoints: service.Endpoints{Any: endpoints > 0, Nodes: map[string]int{nodeName(1): endpoints}},
	}
}

// BenchmarkEvent is one Service that changes, from the event to the delta.
// Its cost may not depend on how many others there are.
func BenchmarkEvent(b *testing.B) {
	for _, services := range []int{100, 50_000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			x := cluster(services, 100)
			x.Flush()
			changed := []plan.Service{serviceAt(42, 0), serviceAt(42, 1)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.Set(changed[i%2])
				if len(x.Flush().Decisions) != 1 {
					b.Fatal("the event changed nothing")
				}
			}
		})
	}
}

// BenchmarkFull decides on 10,000 groups among 100 nodes: cold, when nothing
// was decided before, so every candidate of every address is hashed; and warm,
// when a node leaves and returns.
func BenchmarkFull(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			x := cluster(10_000, 100)
			b.StartTimer()
			if n := len(x.Flush().Decisions); n != 10_000 {
				b.Fatalf("%d decisions", n)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		x := cluster(10_000, 100)
		x.Flush()
		for i := 0; b.Loop(); i++ {
			x.SetMembers(ring(100 - (i+1)%2))
			x.Flush()
		}
	})
}

// speaking fills an index with Services of policy Local, one address each, that
// are advertised to two peers in prefixes of that many bits.
func speaking(services, bits int) *index.Index {
	x := index.New(nodeName(1), false)
	x.SetSynced(true)
	ad := &config.BGPAdvertisement{Name: "all", AggregationLength: bits, AggregationLengthV6: 128, LocalPref: 200, WeightByEndpoints: true}
	var peers []*config.Peer
	for i := range 2 {
		peers = append(peers, &config.Peer{Name: fmt.Sprintf("tor-%d", i), Address: netip.AddrFrom4([4]byte{172, 16, 0, byte(i)})})
	}
	x.SetConfig(config.NewSnapshot(config.Snapshot{
		Pools:             []*config.Pool{{Name: "pool", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, BGP: []*config.BGPAdvertisement{ad}}},
		BGPAdvertisements: []*config.BGPAdvertisement{ad},
		Peers:             peers,
	}))
	for i := range 100 {
		x.SetNode(observed.Node{Name: nodeName(i)})
	}
	x.SetMembers(ring(100))
	x.SetReady(true)
	for i := range services {
		x.Set(localAt(i, 1))
	}
	return x
}

func localAt(i, endpoints int) plan.Service {
	s := serviceAt(i, endpoints)
	s.Local = true
	return s
}

// BenchmarkBGPEvent is one Service that loses or gains its local endpoint, from
// the event to the delta that the BGP room gets: one prefix, two peers. In an
// aggregate of many it changes the weight.
func BenchmarkBGPEvent(b *testing.B) {
	for _, routes := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("routes=%d", routes), func(b *testing.B) {
			x := speaking(routes, 32)
			x.Flush()
			changed := []plan.Service{localAt(42, 0), localAt(42, 1)}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				x.Set(changed[i%2])
				if c := x.Flush().BGP; len(c["tor-0"].Withdraw)+len(c["tor-1"].Announce) != 1 {
					b.Fatalf("the event changed %v", c)
				}
			}
		})
	}
	b.Run("aggregate=10000", func(b *testing.B) {
		x := speaking(10_000, 8)
		x.Flush()
		changed := []plan.Service{localAt(42, 0), localAt(42, 1)}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			x.Set(changed[i%2])
			if c := x.Flush().BGP; len(c["tor-0"].Announce) != 1 {
				b.Fatalf("the event changed %v", c)
			}
		}
	})
}

// BenchmarkBGPFull is the first flush of 10,000 Services, and the one after a
// change of the ring, which decides on each of them again.
func BenchmarkBGPFull(b *testing.B) {
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			x := speaking(10_000, 32)
			b.StartTimer()
			if n := len(x.Flush().BGP["tor-1"].Announce); n != 10_000 {
				b.Fatalf("%d routes", n)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		x := speaking(10_000, 32)
		x.Flush()
		for i := 0; b.Loop(); i++ {
			x.SetMembers(ring(100 - (i+1)%2))
			if c := x.Flush().BGP; len(c) > 0 {
				b.Fatalf("the ring changed %d peers", len(c))
			}
		}
	})
}
