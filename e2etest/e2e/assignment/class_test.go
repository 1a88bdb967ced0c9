//go:build lab

package assignment

import (
	"fmt"
	"testing"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// A Service of another load balancer's class stays pending, and is not touched.
func TestForeignClassStaysPending(t *testing.T) {
	t.Parallel()
	s := newStory(t)
	pool := s.ours("p", s.range4(1, 1))
	s.Service("foreign", harness.Class("example.org/other"), harness.From(pool))
	before, err := s.GetService("foreign")
	s.Must(err)
	s.served("ours", s.v4(1))
	s.Always(while, func() error {
		now, err := s.GetService("foreign")
		if err == nil && now.ResourceVersion != before.ResourceVersion {
			err = fmt.Errorf("the Service of another class was written: %+v", now)
		}
		return err
	})
	events, err := s.EventsOf(s.Namespace, "Service", "foreign")
	s.Must(err)
	for _, e := range events {
		if e.Reason == "AllocationFailed" || e.Reason == "IPAllocated" {
			t.Errorf("event %s about a Service of another class: %s", e.Reason, e.Note)
		}
	}
}
