//go:build lab

package assignment

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, lab.Options{Name: "assignment"}, harness.AddressesAreSound))
}
