// Package status holds what both binaries say on objects of others: the types
// of Herald's conditions on Services and the rule for writing a condition.
//
// It knows how a condition changes, and nothing of why. The controller and the
// speaker's report call it.
package status

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Assigned is the type of the condition that says whether a Service has the
// addresses it wants. The controller writes it, and no other condition.
const Assigned = "heraldlb.io/Assigned"

// Find returns the condition of a type, or nil.
func Find(conditions []metav1.Condition, kind string) *metav1.Condition {
	i := slices.IndexFunc(conditions, func(c metav1.Condition) bool { return c.Type == kind })
	if i < 0 {
		return nil
	}
	return &conditions[i]
}

// Next returns what follows old, which may be nil, when want is to be said at
// now, and whether that differs from old. The transition time moves only when
// the status does.
func Next(old *metav1.Condition, want metav1.Condition, now metav1.Time) (next metav1.Condition, changed bool) {
	want.LastTransitionTime = now
	if old == nil {
		return want, true
	}
	if old.Status == want.Status {
		want.LastTransitionTime = old.LastTransitionTime
	}
	return want, *old != want
}
