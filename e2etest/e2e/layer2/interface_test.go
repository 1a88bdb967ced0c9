//go:build lab

package layer2

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// An address is answered for from the chosen interface, with its MAC, and from
// no other; and the choice can change at any time.
func TestInterfaceSelector(t *testing.T) {
	t.Parallel()
	s := stageOn(t, 1, "interfaces: [eth1]")
	owner := s.WaitOwner("web")
	s.Interfaces("web", "eth1")
	s.AnsweredByOn("eth1", owner, s.addrs...)
	s.Unanswered("eth0", time.Second, s.addrs...)

	s.advertise("a", "interfaces: [eth0]")
	s.Interfaces("web", "eth0")
	s.AnsweredByOn("eth0", s.WaitOwner("web"), s.addrs...)
	s.Unanswered("eth1", time.Second, s.addrs...)
}

// A client on the second segment is served through the second interface.
func TestReachableThroughTheSelectedInterface(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	pool := h.Pool("p", "addresses: ["+h.Block(1).Range()+"], autoAssign: false")
	h.Advertise("a", "ipAddressPools: ["+pool+"], interfaces: [eth1]")
	h.Echo("web", 1)
	h.Service("web", harness.Dual, harness.From(pool))
	for _, addr := range h.WaitAddresses("web", 2) {
		h.Reaches(addr)
	}
}

// An interface that no node has leaves the Service without an announcer, and the
// user is told.
func TestInterfaceThatDoesNotExist(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "interfaces: [eth7]")
	c := s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "InterfaceMissing")
	s.Eventually(harness.Patience, func() error {
		events, err := s.ServiceEvents("web", "announceFailed")
		if err == nil && (len(events) != 1 || events[0].Type != "Warning" || events[0].Note != c.Message) {
			err = fmt.Errorf("the events announceFailed are %+v, want one Warning with the condition's message %q", events, c.Message)
		}
		return err
	})
	s.WaitNoOwner("web")
	s.Unanswered("eth0", 2*time.Second, s.addrs...)
	for _, addr := range s.addrs {
		if a, err := s.Curl(addr); err == nil {
			t.Errorf("%s is reachable: pod %s answers", addr, a.Pod)
		}
	}
	// A name that is right beside it helps.
	s.advertise("a", "interfaces: [eth7, eth0]")
	s.AnsweredBy(s.WaitOwner("web"), s.addrs...)
	// As with MetalLB, the status repeats what was selected.
	s.Interfaces("web", "eth0", "eth7")
}

// Two advertisements of a pool announce from the interfaces of both.
func TestInterfacesOfTwoAdvertisements(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "interfaces: [eth0]")
	s.advertise("b", "interfaces: [eth1]")
	s.Interfaces("web", "eth0", "eth1")
	owner := s.WaitOwner("web")
	s.AnsweredByOn("eth0", owner, s.addrs...)
	s.AnsweredByOn("eth1", owner, s.addrs...)
	s.withdraw("a")
	s.Interfaces("web", "eth1")
	s.Unanswered("eth0", time.Second, s.addrs...)
	s.AnsweredByOn("eth1", s.WaitOwner("web"), s.addrs...)
}

// With a node selector, a node announces from the interfaces of those
// advertisements that select it.
func TestInterfaceAndNodeSelector(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "nodeSelectors: ["+on("node2")+"], interfaces: [eth1]")
	s.WaitOwnerIs("web", "node2")
	s.Interfaces("web", "eth1")
	s.AnsweredByOn("eth1", "node2", s.addrs...)

	s.advertise("b", "nodeSelectors: ["+on("node3")+"], interfaces: [eth0]")
	s.withdraw("a")
	s.WaitOwnerIs("web", "node3")
	s.Interfaces("web", "eth0")
	s.AnsweredByOn("eth0", "node3", s.addrs...)
	s.Unanswered("eth1", time.Second, s.addrs...)

	// With both, it is those of the owner's own advertisement that count.
	for node, preferred := range map[string]string{"node2": "eth1", "node3": "eth0"} {
		s.advertise("a", "nodeSelectors: ["+on("node2")+"], interfaces: [eth1], preferredNodeSelectors: ["+prefer(50, on("node2"))+"]")
		s.advertise("b", "nodeSelectors: ["+on("node3")+"], interfaces: [eth0], preferredNodeSelectors: ["+
			prefer(map[string]int{"node2": 1, "node3": 100}[node], on("node3"))+"]")
		s.WaitOwnerIs("web", node)
		s.Interfaces("web", preferred)
		s.AnsweredByOn(preferred, node, s.addrs...)
		s.Unanswered(map[string]string{"eth0": "eth1", "eth1": "eth0"}[preferred], time.Second, s.addrs...)
	}
}

// A selected interface that loses its carrier on the owner moves the address to
// a node whose interface works.
func TestSelectedInterfaceGoesDown(t *testing.T) {
	s := stageOn(t, 1, "interfaces: [eth1]")
	owner := s.WaitOwner("web")
	s.AnsweredByOn("eth1", owner, s.addrs...)
	plug := s.PullCable(owner, "eth1")
	next := s.WaitOwnerIs("web", s.OtherNodes(owner)...)
	s.AnsweredByOn("eth1", next, s.addrs...)
	plug()
	s.WaitOwnerIs("web", owner)
	s.AnsweredByOn("eth1", owner, s.addrs...)
}
