//go:build lab

package multihop

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
	os.Exit(harness.Main(m, lab.Options{Name: "bgphops", Topology: lab.Multihop}))
}

// The nodes peer with the reflector, and the router between learns of them all:
// clients reach every pod, in both families, BFD watches over several hops, the
// higher preference wins, and a node without power is left out.
func TestReflectorSeveralHopsAway(t *testing.T) {
	h := harness.New(t)
	core, hop := h.Router("core"), h.Router("hop")
	profile := h.BFDProfile("b", "receiveInterval: 1000, transmitInterval: 1000, minimumTtl: 250")
	var peers []string
	for _, p := range h.PeersOf("node1") {
		suffix := map[bool]string{false: "v4", true: "v6"}[p.Addr.Is6()]
		peers = append(peers, h.Peer(suffix, fmt.Sprintf("myASN: %d, peerASN: %d, peerAddress: %q, bfdProfile: %s", lab.DefaultNodeASN, p.ASN, p.Addr, profile)))
	}
	pool := h.Pool("p", "addresses: ["+h.RoutedBlock().Range()+"], autoAssign: false")
	advertise := func(suffix, more string) {
		t.Helper()
		h.AdvertiseBGP(suffix, fmt.Sprintf("ipAddressPools: [%s], peers: [%s, %s]%s", pool, peers[0], peers[1], more))
	}
	advertise("a", "")
	h.Echo("web", 3, h.Nodes()...)
	h.Service("web", harness.Dual, harness.Local, harness.From(pool))
	addrs := h.WaitAddresses("web", 2)
	core.Established(h.Nodes()...)
	for _, a := range addrs {
		hop.RoutesAddr(a, h.Nodes()...)
		core.PathFrom("node2", netip.PrefixFrom(a, a.BitLen()), func(p lab.BGPPath) error {
			if p.LocalPref == nil || *p.LocalPref != 100 {
				return fmt.Errorf("it has no LOCAL_PREF of 100")
			}
			return nil
		})
		h.Serves(a)
		if diff := cmp.Diff(h.Nodes(), slices.Sorted(maps.Keys(h.Flows(a, 100)))); diff != "" {
			t.Errorf("%s: the nodes whose pods answered (-want +got):\n%s", a, diff)
		}
	}
	for _, node := range h.Nodes() {
		for _, peer := range peers {
			h.WaitSession(peer, node, func(st harness.BGPSession) error {
				if st.State != "Established" || st.BFD == nil || st.BFD.State != "Up" {
					return fmt.Errorf("it is %s with BFD %+v", st.State, st.BFD)
				}
				return nil
			})
		}
		core.BFDWith(h.NodeAddr(node), func(p lab.BFDPeer) error {
			if p.Status != "up" || !p.Multihop {
				return fmt.Errorf("it is %s (over several hops: %t)", p.Status, p.Multihop)
			}
			return nil
		})
	}

	// A preference, towards the reflector and beyond.
	advertise("a", ", nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node1}}], localPref: 300")
	advertise("b", ", nodeSelectors: [{matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [node1]}]}]")
	for _, a := range addrs {
		hop.RoutesAddr(a, "node1")
	}
	boot := h.PowerOff("node1")
	for _, a := range addrs {
		hop.RoutesAddr(a, "node2", "node3")
		h.Serves(a)
	}
	boot()
	for _, a := range addrs {
		hop.RoutesAddr(a, "node1")
	}
}
