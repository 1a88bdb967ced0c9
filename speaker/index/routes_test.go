package index

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// A long life of Services that each ask for something of their own leaves
// nothing behind.
func TestNothingIsKeptOfRoutesThatAreGone(t *testing.T) {
	x := New("node-a", false)
	x.SetNode(observed.Node{Name: "node-a"})
	ad := &config.BGPAdvertisement{Name: "bgp", AggregationLength: 24, AggregationLengthV6: 128, ServiceMay: config.ServiceMED}
	x.SetConfig(config.NewSnapshot(config.Snapshot{
		Pools:             []*config.Pool{{Name: "pool", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, BGP: []*config.BGPAdvertisement{ad}}},
		BGPAdvertisements: []*config.BGPAdvertisement{ad},
		Peers:             []*config.Peer{{Name: "tor-1", Address: netip.MustParseAddr("172.16.0.1")}},
	}))
	x.SetSynced(true)
	key := func(i uint32) service.Key { return service.Key{Namespace: "default", Name: fmt.Sprint(i)} }
	for i := range uint32(600) {
		x.Set(plan.Service{
			Service: &service.Service{
				Key: key(i), LoadBalancer: true, BGP: service.BGP{MED: &i},
				Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i % 3), byte(i)})},
			},
			Endpoints: service.Endpoints{Any: true},
		})
		if i >= 5 {
			x.Delete(key(i - 5))
		}
		x.Flush()
		if routes, shared := len(x.bgp.prefixes), len(x.bgp.shared); routes > 3 || shared > routes {
			t.Fatalf("after %d Services there are %d prefixes and %d values of attributes", i, routes, shared)
		}
	}
	for i := range uint32(600) {
		x.Delete(key(i))
	}
	x.Flush()
	if len(x.bgp.prefixes)+len(x.bgp.shared)+len(x.bgp.dirty) > 0 {
		t.Errorf("left: %d prefixes, %d values of attributes, %d to look at", len(x.bgp.prefixes), len(x.bgp.shared), len(x.bgp.dirty))
	}
}
