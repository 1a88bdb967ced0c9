//go:build lab

package v6only

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, lab.Options{Name: "bgpsix", Topology: lab.V6Only}))
}

// Without an IPv4 address a node still has a router ID, and each its own, from its
// name or as the BGPPeer says.
func TestNodesWithoutIPv4(t *testing.T) {
	h := harness.New(t)
	tor := h.Router("tor1")
	p := h.PeersOf("node1")[0]
	spec := fmt.Sprintf("myASN: %d, peerASN: %d, peerAddress: %q", lab.DefaultNodeASN, p.ASN, p.Addr)
	peer := h.Peer("tor", spec)
	pool := h.Pool("p", "addresses: ["+h.RoutedBlock().Range6()+"], autoAssign: false")
	h.AdvertiseBGP("a", "ipAddressPools: ["+pool+`], communities: ["64500:6"]`)
	h.Echo("web", 2, "node1", "node2")
	h.Service("web", harness.Local, harness.From(pool))
	a := h.WaitAddress("web")
	tor.RoutesAddr(a, "node1", "node2")
	tor.PathFrom("node2", netip.PrefixFrom(a, 128), func(p lab.BGPPath) error {
		if !slices.Equal(p.Communities, []string{"64500:6"}) {
			return fmt.Errorf("it has the communities %v", p.Communities)
		}
		return nil
	})
	h.Serves(a)
	if diff := cmp.Diff([]string{"node1", "node2"}, slices.Sorted(maps.Keys(h.Flows(a, 60)))); diff != "" {
		t.Errorf("%s: the nodes whose pods answered (-want +got):\n%s", a, diff)
	}
	ids := map[string]bool{}
	for _, n := range h.Nodes() {
		h.WaitSession(peer, n, nil)
		id := tor.NeighborNode(n, true, nil).RouterID
		if addr, err := netip.ParseAddr(id); err != nil || addr.IsUnspecified() {
			t.Errorf("%s has the router ID %q", n, id)
		}
		ids[id] = true
	}
	if len(ids) != len(h.Nodes()) {
		t.Errorf("the router IDs are %v, want one for each node", ids)
	}
	// One that is written down, for one node.
	h.Peer("tor", spec+", routerID: 10.1.2.3, nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}]")
	tor.NeighborNode("node1", true, func(n lab.BGPNeighbor) error {
		if !n.Up() || n.RouterID != "10.1.2.3" {
			return fmt.Errorf("it is %s with the router ID %s", n.State, n.RouterID)
		}
		return nil
	})
	tor.RoutesAddr(a, "node1")
}
