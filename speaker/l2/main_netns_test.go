//go:build netns

package l2

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(stormEnv) != "" {
		os.Exit(storm())
	}
	os.Exit(netns.Main(m))
}
