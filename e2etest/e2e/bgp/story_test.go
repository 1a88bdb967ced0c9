//go:build lab

package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
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
// nodes, by whichever of their addresses.
func (s *stage) routed(addrs []netip.Addr, nodes ...string) {
	s.Helper()
	for _, a := range addrs {
		s.routedPrefix(host(a), nodes...)
	}
}

func (s *stage) routedPrefix(prefix netip.Prefix, nodes ...string) {
	s.Helper()
	s.Eventually(2*harness.Patience, func() error {
		hops, err := s.tor.Routes(s.Ctx, prefix)
		if err != nil {
			return err
		}
		var got []string
		for _, hop := range hops {
			got = append(got, cmp.Or(inPlane(hop.Gateway), hop.Host))
		}
		if slices.Sort(got); !slices.Equal(got, nodes) {
			return fmt.Errorf("%s routes %s over %v (%v), want %v", s.tor.Name, prefix, got, hops, nodes)
		}
		return nil
	})
}

// said writes what a path has, in one line: "as-path 64500 med 5 communities
// 64500:7". What it does not have is left out.
func said(p lab.BGPPath) string {
	var words []string
	add := func(name string, values ...string) {
		values = slices.DeleteFunc(slices.Sorted(slices.Values(values)), func(v string) bool { return v == "" })
		if len(values) > 0 {
			words = append(append(words, name), values...)
		}
	}
	number := func(n *uint32) string {
		if n == nil {
			return ""
		}
		return strconv.FormatUint(uint64(*n), 10)
	}
	add("as-path", strings.ReplaceAll(p.ASPath, "Local", "")) // FRR's word for an empty one
	add("local-pref", number(p.LocalPref))
	add("med", number(p.MED))
	add("communities", p.Communities...)
	add("large", p.Large...)
	add("extended", p.Extended...)
	return strings.Join(words, " ")
}

// exactly is the condition that a path has exactly these attributes, as said
// writes them.
func exactly(want string) func(lab.BGPPath) error {
	return func(p lab.BGPPath) error {
		if got := said(p); got != want {
			return fmt.Errorf("it has %q, want %q", got, want)
		}
		return nil
	}
}
