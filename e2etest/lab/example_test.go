package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/heraldlb/herald/e2etest/lab"
)

// Two racks, a look at what the spine does with an address, and a rack without
// power.
func ExampleCluster_Router() {
	ctx := context.Background()
	c, err := lab.Up(ctx, lab.Options{Name: "mine", Topology: lab.Racks, Nodes: 4, BGP: lab.BGPOptions{
		Password: "s3cret",
		Routers:  map[string]lab.RouterOptions{"tor2": {Kind: lab.BIRD, ASN: 64501}},
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer c.Down()

	// What each node peers with, for BGPPeer objects.
	for _, n := range c.State.Layout.Nodes {
		peers, _ := c.State.Layout.Peers(n.Name)
		fmt.Println(n.Name, peers)
	}

	spine, _ := c.Router("spine")
	hops, _ := spine.Routes(ctx, netip.MustParsePrefix("198.51.100.10/32"))
	for _, hop := range hops {
		fmt.Println(hop.Host, hop.Weight) // tor1 1, tor2 1
	}

	tor1, _ := c.Router("tor1")
	neighbors, _ := tor1.Neighbors(ctx)
	for _, n := range neighbors {
		fmt.Println(n.Host, n.State, n.Received["ipv4"], n.BFD)
	}
	text, _ := tor1.Vtysh(ctx, "show ip bgp")
	fmt.Println(text)

	// A change that touches no session, and a fault.
	config, _ := tor1.Config()
	_ = tor1.Configure(ctx, strings.ReplaceAll(config, "maximum-paths 32", "maximum-paths 1"))
	_ = tor1.PowerOff(ctx)
	flows, _ := c.Flows(ctx, "client1", netip.MustParseAddrPort("198.51.100.10:80"), 300)
	fmt.Println(flows.ByPod)
}
