//go:build lab

package layer2

import (
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// A node without network hands its addresses over, and gets them back.
func TestNetworkUnavailableMovesTheAddress(t *testing.T) {
	s := stageFor(t, "")
	first := s.WaitOwner("web")
	s.SetNetworkUnavailable(first, true)
	s.announcedByOneOf(s.OtherNodes(first)...)
	s.SetNetworkUnavailable(first, false)
	s.announcedBy(first)
}

// So does a node that is excluded from load balancing by its label.
func TestExcludeLabelMovesTheAddress(t *testing.T) {
	s := stageFor(t, "")
	first := s.WaitOwner("web")
	s.LabelNode(first, harness.ExcludeLabel, "")
	s.announcedByOneOf(s.OtherNodes(first)...)
	s.UnlabelNode(first, harness.ExcludeLabel)
	s.announcedBy(first)
}
