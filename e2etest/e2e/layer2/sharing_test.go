//go:build lab

package layer2

import (
	"fmt"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// Two Services share an address; their pods run on different nodes. One node
// announces both, and both are served.
func TestSharedAddressHasOneOwner(t *testing.T) {
	for _, f := range harness.Families()[:2] {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			h := harness.New(t)
			pool := h.Pool("p", "addresses: ["+h.Block(0).Range()+"], autoAssign: false")
			h.Advertise("a", "ipAddressPools: ["+pool+"]")
			ports := map[string]uint16{"first": 7001, "second": 7002}
			nodes := map[string]string{"first": "node1", "second": "node2"}
			for _, name := range []string{"first", "second"} {
				h.Echo(name, 1, nodes[name])
			}
			h.Service("first", f.Option, harness.From(pool), harness.Sharing("us"), harness.Ports("7001/TCP:9000"))
			addr := h.WaitAddress("first")
			h.Service("second", f.Option, harness.At(addr), harness.Sharing("us"), harness.Ports("7002/TCP:9000"))
			if second := h.WaitAddress("second"); second != addr {
				t.Fatalf("service second has %s, want to share %s", second, addr)
			}

			owner := h.WaitOwner("first")
			h.WaitOwnerIs("second", owner)
			h.AnsweredBy(owner, addr)
			for name, port := range ports {
				h.Eventually(harness.Patience, func() error {
					said, err := h.LastAnnouncer(name)
					if err == nil && said != owner {
						err = fmt.Errorf("the event of service %s names %q, want %q", name, said, owner)
					}
					return err
				})
				h.Eventually(harness.Patience, func() error {
					a, err := h.Ask("tcp", addr, port)
					if err == nil && h.PodNodes(name)[a.Pod] != nodes[name] {
						err = fmt.Errorf("port %d is answered by the pod %s, want that of service %s", port, a.Pod, name)
					}
					return err
				})
			}
		})
	}
}
