//go:build lab

package bgp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// stage is where most stories play: a pool that one BGPAdvertisement sends to the
// shared peers, and the Service "web" in both families with an endpoint on every
// node.
type stage struct {
	*harness.Test
	tor   *harness.Router
	block harness.Block
	pool  string
	addrs []netip.Addr
}

// open sets the scene: a router and a pool.
func open(t *testing.T) *stage {
	t.Helper()
	s := &stage{Test: harness.New(t)}
	s.tor = s.Router("tor1")
	s.block = s.RoutedBlock()
	s.pool = s.Pool("p", "addresses: ["+s.block.Range()+"], autoAssign: false")
	return s
}

// stageFor sets the whole stage up; advertisement is the rest of the
// BGPAdvertisement's spec, in YAML.
func stageFor(t *testing.T, advertisement string, options ...harness.ServiceOption) *stage {
	t.Helper()
	s := open(t)
	s.advertise("a", advertisement)
	s.web("web", options...)
	s.addrs = s.WaitAddresses("web", 2)
	return s
}

// advertise applies a BGPAdvertisement of the stage's pool to the shared peers.
func (s *stage) advertise(suffix, spec string) string {
	s.Helper()
	return s.advertiseTo(suffix, spec, shared4, shared6)
}

// advertiseTo applies a BGPAdvertisement of the stage's pool to peers.
func (s *stage) advertiseTo(suffix, spec string, peers ...string) string {
	s.Helper()
	if spec != "" {
		spec = ", " + spec
	}
	return s.AdvertiseBGP(suffix, "ipAddressPools: ["+s.pool+"], peers: ["+strings.Join(peers, ", ")+"]"+spec)
}

// web creates a dual-stack Service of the stage's pool. What it needs of pods is
// made up: these stories are about routes.
func (s *stage) web(name string, options ...harness.ServiceOption) {
	s.Helper()
	s.Service(name, append([]harness.ServiceOption{harness.Dual, harness.NoPods, harness.From(s.pool)}, options...)...)
	s.Endpoint(name, s.Nodes()...)
}

// routed waits until the router's kernel has the addresses over exactly these
// nodes.
func (s *stage) routed(addrs []netip.Addr, nodes ...string) {
	s.Helper()
	for _, a := range addrs {
		s.tor.RoutesAddr(a, nodes...)
	}
}
