package status_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/status"
)

func TestConditionMovesOnlyWhenItSaysSomethingElse(t *testing.T) {
	then := metav1.NewTime(time.Unix(100, 0))
	now := metav1.NewTime(time.Unix(200, 0))
	old := metav1.Condition{Type: status.Assigned, Status: metav1.ConditionTrue, Reason: "Assigned", Message: "10.0.0.1", LastTransitionTime: then}
	with := func(change func(*metav1.Condition)) metav1.Condition {
		c := old
		change(&c)
		return c
	}
	tests := []struct {
		name    string
		old     *metav1.Condition
		want    metav1.Condition
		next    metav1.Condition
		changed bool
	}{
		{"the first word", nil, old, with(func(c *metav1.Condition) { c.LastTransitionTime = now }), true},
		{"the same again", &old, with(func(c *metav1.Condition) { c.LastTransitionTime = metav1.Time{} }), old, false},
		{"another message keeps the time", &old, with(func(c *metav1.Condition) { c.Message = "10.0.0.2" }),
			with(func(c *metav1.Condition) { c.Message = "10.0.0.2" }), true},
		{"another status moves the time", &old, with(func(c *metav1.Condition) { c.Status = metav1.ConditionFalse }),
			with(func(c *metav1.Condition) { c.Status, c.LastTransitionTime = metav1.ConditionFalse, now }), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next, changed := status.Next(tt.old, tt.want, now)
			if diff := cmp.Diff(tt.next, next); diff != "" || changed != tt.changed {
				t.Errorf("changed %v, want %v; (-want +got)\n%s", changed, tt.changed, diff)
			}
		})
	}
}

func TestFind(t *testing.T) {
	list := []metav1.Condition{{Type: "other"}, {Type: status.Assigned, Reason: "here"}}
	if c := status.Find(list, status.Assigned); c == nil || c.Reason != "here" {
		t.Errorf("got %v", c)
	}
	if c := status.Find(list, "missing"); c != nil {
		t.Errorf("got %v, want nothing", c)
	}
}
