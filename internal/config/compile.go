package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Compile turns the objects into a Snapshot and tells what is wrong with them.
//
// What is wrong is left out, as little of it as makes sense: one entry of a
// pool, one selector of a list (which then matches nothing, so that a mistake
// never widens what an object allows), one advertisement on one pool, one
// peer. The problems are sorted by kind, name and field.
func Compile(objects Objects) (*Snapshot, []Problem) {
	c := &compiler{objects: objects}
	var s Snapshot
	s.Pools = c.pools()
	s.L2Advertisements = c.l2Advertisements(s.Pools)
	s.Communities = c.communities()
	s.BFDProfiles = c.bfdProfiles()
	s.BGPAdvertisements = c.bgpAdvertisements(s.Pools, s.Communities)
	s.Peers = c.peers(s.BFDProfiles)

	slices.SortFunc(c.problems, compareProblems)
	return NewSnapshot(s), slices.Compact(c.problems)
}

func compareProblems(a, b Problem) int {
	return cmp.Or(
		strings.Compare(a.Kind, b.Kind),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Field, b.Field),
		strings.Compare(a.Message, b.Message),
	)
}

// compiler collects the problems of one Compile.
type compiler struct {
	objects  Objects
	problems []Problem
}

// report notes problems of one object.
type report struct {
	c                     *compiler
	kind, namespace, name string
}

func (c *compiler) about(kind string, o metav1.Object) report {
	return report{c: c, kind: kind, namespace: o.GetNamespace(), name: o.GetName()}
}

// errorf says that field, or the whole object, is not used.
func (r report) errorf(field, format string, args ...any) {
	r.add(Error, field, format, args...)
}

// warnf says that field does not do what its author may think.
func (r report) warnf(field, format string, args ...any) {
	r.add(Warning, field, format, args...)
}

func (r report) add(severity Severity, field, format string, args ...any) {
	r.c.problems = append(r.c.problems, Problem{
		Kind: r.kind, Namespace: r.namespace, Name: r.name,
		Field: field, Severity: severity, Message: fmt.Sprintf(format, args...),
	})
}

// names returns a list of names, sorted and each once; a name that is given
// twice is reported.
func (r report) names(field string, list []string) []string {
	if len(list) == 0 {
		return nil
	}
	seen := make(map[string]struct{}, len(list))
	out := make([]string, 0, len(list))
	for i, name := range list {
		if _, dup := seen[name]; dup {
			r.warnf(fmt.Sprintf("%s[%d]", field, i), "duplicate value %q: expected each value once", name)
			continue
		}
		seen[name] = struct{}{}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
