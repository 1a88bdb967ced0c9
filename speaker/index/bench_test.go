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
