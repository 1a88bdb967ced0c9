//go:build netns

package udp

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(busyEnv) != "" {
		os.Exit(busy())
	}
	os.Exit(netns.Main(m))
}
