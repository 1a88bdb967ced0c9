package ipam

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

func benchServices(n int) []*service.Service {
	list := make([]*service.Service, n)
	for i := range list {
		list[i] = &service.Service{
			Key:          service.Key{Namespace: "default", Name: fmt.Sprintf("web-%06d", i)},
			UID:          fmt.Sprint(i),
			Created:      time.Unix(int64(i), 0),
			LoadBalancer: true,
			ClusterIPs:   []netip.Addr{netip.MustParseAddr("10.96.0.1")},
			Ports:        []service.Port{{Protocol: "TCP", Port: 80}},
		}
	}
	return list
}

func benchPool(prefix string) []*config.Pool {
	return []*config.Pool{{Name: "main", AutoAssign: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}}
}

// BenchmarkAlloc is one allocation and its release, in a pool that is used to
// the given part.
func BenchmarkAlloc(b *testing.B) {
	for _, used := range []struct {
		name string
		n    int
	}{{"empty", 0}, {"full", 64881}} {
		b.Run(used.name, func(b *testing.B) {
			a := New()
			a.SetPools(benchPool("10.0.0.0/16"))
			services := benchServices(used.n + 1)
			for _, svc := range services[:used.n] {
				a.Assign(svc)
			}
			svc := services[used.n]
			b.ReportAllocs()
			for b.Loop() {
				if d := a.Assign(svc); len(d[0].Addresses) == 0 {
					b.Fatal(d[0].Message)
				}
				a.Release(svc.Key)
			}
		})
	}
}

// BenchmarkFill16 fills a /16.
func BenchmarkFill16(b *testing.B) {
	services := benchServices(1 << 16)
	for b.Loop() {
		a := New()
		a.SetPools(benchPool("10.0.0.0/16"))
		for _, svc := range services {
			if d := a.Assign(svc); len(d[0].Addresses) == 0 {
				b.Fatal(d[0].Message)
			}
		}
	}
}

// BenchmarkAdopt100k adopts 100,000 assignments after a start.
func BenchmarkAdopt100k(b *testing.B) {
	services := benchServices(100_000)
	addr := netip.MustParseAddr("10.0.0.0")
	for _, svc := range services {
		svc.Addresses, svc.Pool = []netip.Addr{addr}, "main"
		addr = addr.Next()
	}
	for b.Loop() {
		a := New()
		a.SetPools(benchPool("10.0.0.0/8"))
		if n := len(a.Adopt(services)); n != len(services) {
			b.Fatalf("%d of %d adopted", n, len(services))
		}
	}
}
