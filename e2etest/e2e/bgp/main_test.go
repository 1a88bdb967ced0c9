//go:build lab

package bgp

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

// One rack: three nodes, an FRR router, a client behind it.
func TestMain(m *testing.M) {
	// The stories wait for timers of protocols far more than they compute.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(harness.Main(m, lab.Options{Name: "bgp", Topology: lab.ToR}, sharedPeers))
}

// The peers that most stories share: the router's addresses, watched by BFD.
const shared4, shared6 = "tor-v4", "tor-v6"

// sharedPeers makes them. They outlive every test.
func sharedPeers(w *harness.World) (stop func() error, err error) {
	// Slow enough for a machine that is busy with a whole cluster.
	text := fmt.Sprintf("apiVersion: metallb.io/v1beta1\nkind: BFDProfile\nmetadata: {name: shared, namespace: %s}\n"+
		"spec: {receiveInterval: 1000, transmitInterval: 1000}\n", herald.Namespace)
	for _, r := range w.State.Layout.Routers {
		for _, a := range r.Interfaces[0].Addrs() {
			name := map[bool]string{false: shared4, true: shared6}[a.Is6()]
			text += fmt.Sprintf("---\napiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: %s, namespace: %s}\n"+
				"spec: {myASN: %d, peerASN: %d, peerAddress: %q, bfdProfile: shared}\n", name, herald.Namespace, lab.DefaultNodeASN, r.ASN, a)
		}
	}
	return func() error { return nil }, w.Apply(context.Background(), text)
}
