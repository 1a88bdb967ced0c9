//go:build lab

package layer2

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// Two segments with all nodes on both, as eth0 and eth1, and a client on each.
func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, lab.Options{Name: "layer2", Clients: 2, Segments: []lab.SegmentOptions{
		{Hosts: []string{"node1", "node2", "node3", "client1"}},
		{Hosts: []string{"node1", "node2", "node3", "client2"}},
	}}))
}
