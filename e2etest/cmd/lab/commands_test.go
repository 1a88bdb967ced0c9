package main

import (
	"strings"
	"testing"
)

// Only flags that stand first and name a lab are the lab's; kubectl has its own.
func TestLeading(t *testing.T) {
	for _, tc := range []struct{ args, own, rest string }{
		{"get pods", "", "get pods"},
		{"-n metallb-system get pods", "", "-n metallb-system get pods"},
		{"--name a get pods --name b", "--name a", "get pods --name b"},
		{"--name=a --state-dir /x -A get pods", "--name=a --state-dir /x", "-A get pods"},
		{"--name", "--name", ""},
		{"", "", ""},
	} {
		own, rest := leading(strings.Fields(tc.args))
		if got := strings.Join(own, " "); got != tc.own {
			t.Errorf("%q: own %q, want %q", tc.args, got, tc.own)
		}
		if got := strings.Join(rest, " "); got != tc.rest {
			t.Errorf("%q: rest %q, want %q", tc.args, got, tc.rest)
		}
	}
}
