//go:build lab

package layer2

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// Two segments, with everybody on both: eth0 and eth1.
func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, lab.Options{Name: "layer2", Segments: []lab.SegmentOptions{{}, {}}}))
}
