package config

import "k8s.io/apimachinery/pkg/labels"

// nodeSet is the nodes that a list of selectors selects, one bit a node. It is
// what makes it cheap to ask of every pair of objects whether they meet.
type nodeSet []uint64

// nodeSet evaluates selectors on all known nodes.
func (c *compiler) nodeSet(selectors []labels.Selector) nodeSet {
	set := make(nodeSet, (len(c.objects.Nodes)+63)/64)
	for i, n := range c.objects.Nodes {
		if Matches(selectors, n.Labels) {
			set[i/64] |= 1 << (i % 64)
		}
	}
	return set
}

// mayMeet is true unless it is certain that no node is in both sets. Where no
// node is known, nothing is certain.
func (s nodeSet) mayMeet(o nodeSet) bool {
	for i := range s {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return len(s) == 0
}
