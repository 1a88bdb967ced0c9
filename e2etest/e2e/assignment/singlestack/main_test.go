//go:build lab

package singlestack

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, lab.Options{Name: "singlestack", Nodes: 1, Families: lab.IPv4Only}, harness.AddressesAreSound))
}
