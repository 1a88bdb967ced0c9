//go:build lab

package layer2

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// stage is where most stories play: a pool, an L2Advertisement of it, and the
// Service "web" in both families with an endpoint on every node.
type stage struct {
	*harness.Test
	pool  string
	addrs []netip.Addr
}

// stageOn sets a stage up with addresses of a segment; advertisement is the rest
// of the L2Advertisement's spec, in YAML.
func stageOn(t *testing.T, segment int, advertisement string, options ...harness.ServiceOption) *stage {
	t.Helper()
	s := &stage{Test: harness.New(t)}
	s.pool = s.Pool("p", "addresses: ["+s.Block(segment).Range()+"], autoAssign: false")
	s.advertise("a", advertisement)
	s.web("web", options...)
	s.addrs = s.WaitAddresses("web", 2)
	return s
}

// stageFor is stageOn the first segment.
func stageFor(t *testing.T, advertisement string, options ...harness.ServiceOption) *stage {
	t.Helper()
	return stageOn(t, 0, advertisement, options...)
}

// web creates a Service of the stage's pool. What it needs of pods is made up:
// these stories are about who announces.
func (s *stage) web(name string, options ...harness.ServiceOption) {
	s.Helper()
	s.Service(name, append([]harness.ServiceOption{harness.Dual, harness.NoPods, harness.From(s.pool)}, options...)...)
	s.Endpoint(name, s.Nodes()...)
}

// advertise applies an L2Advertisement of the stage's pool.
func (s *stage) advertise(suffix, spec string) {
	s.Helper()
	if spec != "" {
		spec = ", " + spec
	}
	s.Advertise(suffix, "ipAddressPools: ["+s.pool+"]"+spec)
}

// withdraw deletes an L2Advertisement of the stage.
func (s *stage) withdraw(suffix string) {
	s.Helper()
	s.Delete(harness.L2Advertisements, s.Namespace+"-"+suffix)
}

// announcedBy waits until a node announces "web": the cluster says so, and the
// node, and no other, answers on the wire.
func (s *stage) announcedBy(node string) {
	s.Helper()
	s.WaitOwnerIs("web", node)
	s.AnsweredBy(node, s.addrs...)
}

// announcedByOneOf is announcedBy for a choice of nodes.
func (s *stage) announcedByOneOf(nodes ...string) (node string) {
	s.Helper()
	node = s.WaitOwnerIs("web", nodes...)
	s.AnsweredBy(node, s.addrs...)
	return node
}

// on is a node selector for nodes by their names.
func on(nodes ...string) string {
	return "{matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [" + strings.Join(nodes, ", ") + "]}]}"
}

// labelled is a selector for a label with the value "yes".
func labelled(key string) string { return "{matchLabels: {" + key + ": \"yes\"}}" }

// prefer is a preferred node selector.
func prefer(weight int, selector string) string {
	return fmt.Sprintf("{weight: %d, preference: %s}", weight, selector)
}

// another returns a node that is none of some.
func another(s *stage, than ...string) string {
	others := s.OtherNodes(than...)
	return others[len(others)-1]
}
