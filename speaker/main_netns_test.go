//go:build netns

package main

import (
	"os"
	"testing"

	"github.com/heraldlb/herald/internal/testutil/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }
