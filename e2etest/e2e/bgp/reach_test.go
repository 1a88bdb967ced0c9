//go:build lab

package bgp

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// No connection may fail here, so these stories run alone: the router may move a
// flow to another node when other tests change the addresses of its interface.

// With the Cluster policy every node has the route, and a client behind the router
// reaches every pod.
func TestReachableWithClusterPolicy(t *testing.T) {
	for _, f := range harness.Families() {
		t.Run(f.Name, func(t *testing.T) {
			s := open(t)
			s.advertise("a", "")
			s.Echo("web", 2, "node1", "node2")
			s.Service("web", f.Option, harness.From(s.pool))
			addrs := s.WaitAddresses("web", f.Addresses)
			s.routed(addrs, s.Nodes()...)
			for _, a := range addrs {
				s.answeredFrom(a, "node1", "node2")
			}
		})
	}
}

// With the Local policy only nodes with a pod have the route, flows are spread over
// them, and pods see the client's own address.
func TestReachableWithLocalPolicy(t *testing.T) {
	for _, f := range harness.Families() {
		t.Run(f.Name, func(t *testing.T) {
			s := open(t)
			s.advertise("a", "")
			s.Echo("web", 2, "node1", "node3")
			s.Service("web", f.Option, harness.Local, harness.From(s.pool))
			client, err := s.State.Layout.Host("client1")
			s.Must(err)
			addrs := s.WaitAddresses("web", f.Addresses)
			s.routed(addrs, "node1", "node3")
			for _, a := range addrs {
				s.answeredFrom(a, "node1", "node3")
				if got := s.Reaches(a).Client.Addr(); !slices.Contains(client.Interfaces[0].Addrs(), got) {
					t.Errorf("%s: the pod saw the client as %s, want the client's own address", a, got)
				}
			}
		})
	}
}

// answeredFrom opens enough connections that pods of all these nodes answer, and of
// no other.
func (s *stage) answeredFrom(a netip.Addr, nodes ...string) {
	s.Helper()
	s.Serves(a)
	if diff := cmp.Diff(nodes, slices.Sorted(maps.Keys(s.Flows(a, 60)))); diff != "" {
		s.Errorf("%s: the nodes whose pods answered (-want +got):\n%s", a, diff)
	}
}
