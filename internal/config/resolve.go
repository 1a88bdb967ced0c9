package config

import (
	"fmt"
	"strings"
)

// Community reads a literal, or the name of a Community. A name wins over a
// literal of the same spelling. The annotations of Services are read with it;
// advertisements are resolved by Compile.
func (s *Snapshot) Community(text string) (Community, error) {
	if c, known := s.Communities[text]; known {
		return c, nil
	}
	c, err := parseCommunity(text)
	if err != nil && !strings.Contains(text, ":") {
		return Community{}, fmt.Errorf("unknown community %q: expected a name that a Community object defines, or a literal such as 64512:100", text)
	}
	return c, err
}

// Conflicts tells whether two advertisements of one pool, which both apply on
// one node, give a prefix of the families asked for different attributes
// towards one peer, and in which field.
func Conflicts(a, b *BGPAdvertisement, v4, v6 bool) (field string, yes bool) {
	switch {
	case (!v4 || a.AggregationLength != b.AggregationLength) &&
		(!v6 || a.AggregationLengthV6 != b.AggregationLengthV6):
		return "", false
	case len(a.Peers) > 0 && len(b.Peers) > 0 && disjoint(a.Peers, b.Peers):
		return "", false
	case a.LocalPref != b.LocalPref:
		return "localPref", true
	case (a.MED == nil) != (b.MED == nil) || a.MED != nil && *a.MED != *b.MED:
		return "med", true
	case a.Prepend != b.Prepend:
		return "asPathPrepend", true
	}
	return "", false
}
