//go:build lab

package layer2

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// The node selector moves the address to each node in turn.
func TestNodeSelectorOneNodeAtATime(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "nodeSelectors: ["+on("node1")+"]")
	for _, node := range s.Nodes() {
		s.advertise("a", "nodeSelectors: ["+on(node)+"]")
		s.announcedBy(node)
	}
}

// Any of several node selectors is enough.
func TestSeveralNodeSelectors(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "nodeSelectors: ["+on("node1")+", "+on("node3")+"]")
	first := s.announcedByOneOf("node1", "node3")
	// The other of the two is eligible too: it takes over from the first.
	other := map[string]string{"node1": "node3", "node3": "node1"}[first]
	s.advertise("a", "nodeSelectors: ["+on(other)+", "+on("nobody")+"]")
	s.announcedBy(other)
}

// A node becomes eligible when it gets the label, and stops when it loses it.
func TestLabelMakesANodeEligible(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "nodeSelectors: [{matchLabels: {e2e-eligible: \"yes\"}}]")
	s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "NodeNotSelected")
	s.Unanswered("eth0", time.Second, s.addrs...)
	s.LabelNode("node2", "e2e-eligible", "yes")
	s.announcedBy("node2")
	s.UnlabelNode("node2", "e2e-eligible")
	s.WaitNoOwner("web")
	s.Unanswered("eth0", time.Second, s.addrs...)
}

// An L2Advertisement with a pool and a service selector is for Services that
// match both.
func TestServiceSelectorAndPool(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "serviceSelectors: ["+labelled("public")+"]", harness.Labelled("public", "yes"))
	s.announcedByOneOf(s.Nodes()...)

	s.web("unlabelled")
	unlabelled := s.WaitAddresses("unlabelled", 2)
	other := s.Pool("other", "addresses: ["+s.Block(0).Range()+"], autoAssign: false")
	s.web("elsewhere", harness.From(other), harness.Labelled("public", "yes"))
	elsewhere := s.WaitAddresses("elsewhere", 2)
	for _, name := range []string{"unlabelled", "elsewhere"} {
		s.WaitCondition(name, harness.Announced, metav1.ConditionFalse, "NoMatchingAdvertisement")
	}
	s.Unanswered("eth0", time.Second, append(unlabelled, elsewhere...)...)

	// The label decides at runtime, too.
	s.UpdateService("unlabelled", func(svc *corev1.Service) { metav1.SetMetaDataLabel(&svc.ObjectMeta, "public", "yes") })
	s.AnsweredBy(s.WaitOwner("unlabelled"), unlabelled...)
	s.UpdateService("web", func(svc *corev1.Service) { delete(svc.Labels, "public") })
	s.WaitNoOwner("web")
	s.Unanswered("eth0", time.Second, s.addrs...)
}

// Any of several service selectors is enough.
func TestSeveralServiceSelectors(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "serviceSelectors: ["+labelled("public")+", "+labelled("partner")+"]", harness.Labelled("public", "yes"))
	s.web("partner", harness.Labelled("partner", "yes"))
	s.web("private", harness.Labelled("private", "yes"))
	private := s.WaitAddresses("private", 2)
	s.announcedByOneOf(s.Nodes()...)
	s.AnsweredBy(s.WaitOwner("partner"), s.WaitAddresses("partner", 2)...)
	s.WaitCondition("private", harness.Announced, metav1.ConditionFalse, "NoMatchingAdvertisement")
	s.Unanswered("eth0", time.Second, private...)
}

// Only the nodes of the advertisements that match a Service take part in its
// election, so exactly one node announces it.
func TestElectionAmongTheMatchingAdvertisements(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "serviceSelectors: ["+labelled("gold")+"], nodeSelectors: ["+on("node2")+"]", harness.Labelled("gold", "yes"))
	s.advertise("b", "serviceSelectors: ["+labelled("silver")+"], nodeSelectors: ["+on("node1", "node3")+"]")
	s.announcedBy("node2")
	for i := range 3 {
		gold, silver := fmt.Sprintf("gold%d", i), fmt.Sprintf("silver%d", i)
		s.web(gold, harness.Labelled("gold", "yes"))
		s.web(silver, harness.Labelled("silver", "yes"))
		s.AnsweredBy(s.WaitOwnerIs(gold, "node2"), s.WaitAddresses(gold, 2)...)
		s.AnsweredBy(s.WaitOwnerIs(silver, "node1", "node3"), s.WaitAddresses(silver, 2)...)
	}
}

// One advertisement selects the Service but no node, another all nodes but not
// the Service: together they announce nothing.
func TestNoAdvertisementForBothServiceAndNode(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "serviceSelectors: ["+labelled("gold")+"], nodeSelectors: ["+on("nobody")+"]", harness.Labelled("gold", "yes"))
	s.advertise("b", "serviceSelectors: ["+labelled("silver")+"]")
	s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "NodeNotSelected")
	s.WaitNoOwner("web")
	s.Unanswered("eth0", 2*time.Second, s.addrs...)
}
