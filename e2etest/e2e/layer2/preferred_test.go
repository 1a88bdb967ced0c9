//go:build lab

package layer2

import (
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// A preferred node wins over the baseline, for as long as it matches.
func TestPreferredNodeWins(t *testing.T) {
	t.Parallel()
	const label = "e2e-preferred"
	s := stageFor(t, "preferredNodeSelectors: ["+prefer(100, labelled(label))+"]")
	// Nobody has the label: that is the baseline.
	baseline := s.WaitOwner("web")
	wanted := another(s, baseline)
	s.LabelNode(wanted, label, "yes")
	s.announcedBy(wanted)
	s.UnlabelNode(wanted, label)
	s.announcedBy(baseline)
}

// A preference that matches no node changes nothing.
func TestPreferenceWithoutAMatch(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "")
	baseline := s.WaitOwner("web")
	s.advertise("a", "preferredNodeSelectors: ["+prefer(100, on("nobody"))+"]")
	s.Always(2*time.Second, func() error {
		_, err := s.Answerer(s.addrs[0], "eth0")
		return err
	})
	s.announcedBy(baseline)
}

// A preferred node that is excluded gives way, and reclaims the address.
func TestPreferredNodeIsExcludedAndReclaims(t *testing.T) {
	s := stageFor(t, "")
	wanted := another(s, s.WaitOwner("web"))
	s.advertise("a", "preferredNodeSelectors: ["+prefer(100, on(wanted))+"]")
	s.announcedBy(wanted)
	s.LabelNode(wanted, harness.ExcludeLabel, "")
	s.announcedByOneOf(s.OtherNodes(wanted)...)
	s.UnlabelNode(wanted, harness.ExcludeLabel)
	s.announcedBy(wanted)
}

// A change of the preferences elects anew.
func TestChangedPreferenceElectsAnew(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "")
	for _, node := range s.Nodes() {
		s.advertise("a", "preferredNodeSelectors: ["+prefer(50, on(node))+"]")
		s.announcedBy(node)
	}
}

// Node selectors are hard: no preference makes another node eligible.
func TestNodeSelectorsAreHard(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "nodeSelectors: ["+on("node1", "node2")+"], preferredNodeSelectors: ["+
		prefer(100, on("node3"))+", "+prefer(1, on("node2"))+"]")
	s.announcedBy("node2")
}

// Two advertisements with disjoint nodes: the weights of both are compared.
func TestPreferencesOfDisjointNodes(t *testing.T) {
	t.Parallel()
	adv := func(node string, weight int) string {
		return "nodeSelectors: [" + on(node) + "], preferredNodeSelectors: [" + prefer(weight, on(node)) + "]"
	}
	s := stageFor(t, adv("node1", 10))
	s.advertise("b", adv("node2", 20))
	s.announcedBy("node2")
	s.advertise("a", adv("node1", 30))
	s.announcedBy("node1")
}

// The weights of several advertisements add up.
func TestWeightsAddUp(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "preferredNodeSelectors: ["+prefer(30, on("node1"))+"]")
	s.announcedBy("node1")
	s.advertise("b", "preferredNodeSelectors: ["+prefer(50, on("node2"))+"]")
	s.announcedBy("node2")
	s.advertise("c", "preferredNodeSelectors: ["+prefer(30, on("node1"))+", "+prefer(20, on("node3"))+"]")
	s.announcedBy("node1") // 60 against 50
	s.withdraw("c")
	s.announcedBy("node2")
}

// Preferences count for the Services only that their advertisement selects.
func TestPreferencesAreScopedByServiceSelectors(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "")
	baseline := s.WaitOwner("web")
	wanted := another(s, baseline)
	s.web("gold", harness.Labelled("gold", "yes"))
	s.advertise("b", "serviceSelectors: ["+labelled("gold")+"], preferredNodeSelectors: ["+prefer(100, on(wanted))+"]")
	s.AnsweredBy(s.WaitOwnerIs("gold", wanted), s.WaitAddresses("gold", 2)...)
	s.announcedBy(baseline)
}
