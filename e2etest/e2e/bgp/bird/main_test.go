//go:build lab

package bird

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

const password = "between-us"

// Two racks: node1 and node2 behind tor1, a BIRD; node3 behind tor2, an FRR; both
// behind the spine, a BIRD; a client behind that.
func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, lab.Options{Name: "bgpbird", Topology: lab.Racks, BGP: lab.BGPOptions{
		Password: password,
		Routers:  map[string]lab.RouterOptions{"tor1": {Kind: lab.BIRD}},
	}}, prepare))
}

// prepare lets routers dial and makes the peers that all stories share: they
// outlive every test.
func prepare(w *harness.World) (stop func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	root, err := herald.Root()
	if err != nil {
		return nil, err
	}
	if _, err := w.Kubectl(ctx, "apply", "-k", filepath.Join(root, "config", "overlays", "bgp-passive")); err != nil {
		return nil, err
	}
	if err := herald.WaitReady(ctx, w.Cluster); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: routers, namespace: %[1]s}
type: kubernetes.io/basic-auth
stringData: {username: "", password: %[2]s}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: shared, namespace: %[1]s}
spec: {receiveInterval: 1000, transmitInterval: 1000}
`, herald.Namespace, password)
	tor1, err := w.Cluster.Router("tor1")
	if err != nil {
		return nil, err
	}
	config, err := tor1.Config()
	if err != nil {
		return nil, err
	}
	// BIRD lets nobody in for a minute after BFD or a NOTIFICATION has ended a
	// session, unless it is told otherwise.
	config = strings.ReplaceAll(config, "strict bind off;", "strict bind off; error wait time 1, 3;")
	if err := tor1.Configure(ctx, config); err != nil {
		return nil, err
	}
	racks := map[string]string{"tor1": "node1, node2", "tor2": "node3"}
	for _, node := range []string{"node1", "node3"} {
		peers, err := w.State.Layout.Peers(node)
		if err != nil {
			return nil, err
		}
		for _, p := range peers {
			text += fmt.Sprintf(`---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: %s, namespace: %s}
spec:
  myASN: %d
  peerASN: %d
  peerAddress: %q
  bfdProfile: shared
  passwordSecret: {name: routers}
  nodeSelectors: [{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [%s]}]}]
`, peerName(p), herald.Namespace, lab.DefaultNodeASN, p.ASN, p.Addr, racks[p.Name])
		}
	}
	return func() error { return nil }, w.Apply(ctx, text)
}

// peerName is the name of the BGPPeer for a router's address.
func peerName(p lab.Neighbor) string {
	return p.Name + map[bool]string{false: "-v4", true: "-v6"}[p.Addr.Is6()]
}

// shared are the peers of all stories.
const shared = "tor1-v4, tor1-v6, tor2-v4, tor2-v6"
