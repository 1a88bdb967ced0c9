//go:build lab

package layer2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// With the Cluster policy a client reaches every pod, wherever it runs, through
// the one node that answers for the address.
func TestReachableWithClusterPolicy(t *testing.T) {
	for _, f := range harness.Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			h := harness.New(t)
			pool := h.Pool("p", "addresses: ["+h.Block(0).Range()+"], autoAssign: false")
			h.Advertise("a", "ipAddressPools: ["+pool+"]")
			h.Echo("web", 3)
			h.Service("web", f.Option, harness.From(pool))
			addrs := h.WaitAddresses("web", f.Addresses)
			owner := h.WaitOwner("web")
			for _, addr := range addrs {
				h.AnsweredBy(owner, addr)
				h.AnswersOf(addr, 3)
			}
		})
	}
}

// With the Local policy only pods of the announcing node serve, and they see the
// client's own address.
func TestReachableWithLocalPolicy(t *testing.T) {
	for _, f := range harness.Families() {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			h := harness.New(t)
			pool := h.Pool("p", "addresses: ["+h.Block(0).Range()+"], autoAssign: false")
			h.Advertise("a", "ipAddressPools: ["+pool+"]")
			h.Echo("web", 5)
			h.Service("web", f.Option, harness.Local, harness.From(pool))
			addrs := h.WaitAddresses("web", f.Addresses)
			owner := h.WaitOwner("web")
			nodes := h.PodNodes("web")
			for _, addr := range addrs {
				h.AnsweredBy(owner, addr)
				h.Reaches(addr)
				for range 6 {
					a, err := h.Curl(addr)
					h.Must(err)
					if nodes[a.Pod] != owner {
						t.Errorf("%s: pod %s on %s answers, want one on the announcing %s", addr, a.Pod, nodes[a.Pod], owner)
					}
					if !clientHas(h, a.Client.Addr()) {
						t.Errorf("%s: the pod saw the client as %s, want the client's own address", addr, a.Client)
					}
				}
			}
		})
	}
}

func clientHas(h *harness.Test, addr netip.Addr) bool {
	c, err := h.State.Layout.Host("client1")
	h.Must(err)
	return slices.Contains(c.Interfaces[0].Addrs(), addr)
}

// One Service offers TCP and UDP on one address.
func TestMixedProtocolService(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	pool := h.Pool("p", "addresses: ["+h.Block(0).Range()+"], autoAssign: false")
	h.Advertise("a", "ipAddressPools: ["+pool+"]")
	h.Echo("web", 1)
	h.Service("web", harness.Dual, harness.From(pool), harness.Ports("7000/TCP:9000", "7000/UDP:9000"))
	for _, addr := range h.WaitAddresses("web", 2) {
		for _, protocol := range []string{"tcp", "udp"} {
			h.Eventually(harness.Patience, func() error {
				if _, err := h.Ask(protocol, addr, 7000); err != nil {
					return fmt.Errorf("%s over %s: %w", addr, protocol, err)
				}
				return nil
			})
		}
	}
}
