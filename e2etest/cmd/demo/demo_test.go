package main

import (
	"testing"

	"github.com/heraldlb/herald/e2etest/lab"
)

// What the demo judges by must be able to say no.
func TestProportional(t *testing.T) {
	hop := func(host string, weight int) lab.NextHop { return lab.NextHop{Host: host, Weight: weight} }
	for _, c := range []struct {
		name   string
		hops   []lab.NextHop
		shares map[string]int
		want   bool
	}{
		{"no route, as wanted", nil, nil, true},
		{"a route that should be gone", []lab.NextHop{hop("a", 1)}, nil, false},
		{"no route", nil, map[string]int{"a": 1}, false},
		{"one way", []lab.NextHop{hop("a", 1)}, map[string]int{"a": 3}, true},
		{"the wrong way", []lab.NextHop{hop("b", 1)}, map[string]int{"a": 3}, false},
		{"one way twice", []lab.NextHop{hop("a", 1), hop("a", 1)}, map[string]int{"a": 1, "b": 1}, false},
		{"a node is missing", []lab.NextHop{hop("a", 1), hop("b", 1)}, map[string]int{"a": 1, "b": 1, "c": 1}, false},
		{"a node too many", []lab.NextHop{hop("a", 1), hop("b", 1)}, map[string]int{"a": 1}, false},
		{"all the same", []lab.NextHop{hop("a", 1), hop("b", 1), hop("c", 1)}, map[string]int{"a": 1, "b": 1, "c": 1}, true},
		{"percents, rounded", []lab.NextHop{hop("a", 33), hop("b", 66)}, map[string]int{"a": 1, "b": 2}, true},
		{"weights of pods", []lab.NextHop{hop("a", 50), hop("b", 25), hop("c", 25)}, map[string]int{"a": 2, "b": 1, "c": 1}, true},
		{"all the same, but not the pods", []lab.NextHop{hop("a", 1), hop("b", 1), hop("c", 1)}, map[string]int{"a": 2, "b": 1, "c": 1}, false},
		{"the weights of others", []lab.NextHop{hop("a", 25), hop("b", 50), hop("c", 25)}, map[string]int{"a": 2, "b": 1, "c": 1}, false},
	} {
		if got := proportional(c.hops, c.shares); got != c.want {
			t.Errorf("%s: proportional(%v, %v) is %t", c.name, c.hops, c.shares, got)
		}
	}
}

func TestFair(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts map[string]int
		want  int
		ok    bool
	}{
		{"about the same", map[string]int{"a": 82, "b": 102, "c": 116}, 3, true},
		{"half of a fair part", map[string]int{"a": 50, "b": 120, "c": 130}, 3, true},
		{"less", map[string]int{"a": 49, "b": 121, "c": 130}, 3, false},
		{"one got nothing", map[string]int{"a": 0, "b": 150, "c": 150}, 3, false},
		{"one is missing", map[string]int{"a": 150, "b": 150}, 3, false},
		{"one too many", map[string]int{"a": 1, "b": 1}, 1, false},
	} {
		if err := fair(c.parts, c.want); (err == nil) != c.ok {
			t.Errorf("%s: fair(%v, %d) says %v", c.name, c.parts, c.want, err)
		}
	}
}

func TestUnknownPart(t *testing.T) {
	err := run(t.Context(), t.Output(), "layer3", false)
	const want = "PART=layer3: no such part, want one of [layer2 bgp]"
	if err == nil || err.Error() != want {
		t.Errorf("run says %v, want %s", err, want)
	}
}
