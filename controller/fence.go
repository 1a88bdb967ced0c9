package main

import (
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/internal/manager"
)

// A fence keeps a replica that lost its lease from writing. The election ends
// such a replica too, but a process that was stopped for a while (its machine
// froze, say) wakes up believing that it leads, and works for seconds before the
// election gives up. Two replicas at work give one address to two Services.
type fence struct {
	renewed atomic.Pointer[time.Time]
}

// renew notes that the lease was taken or renewed, asked for at that time.
func (f *fence) renew(asked time.Time) { f.renewed.Store(&asked) }

// until returns by when a write that starts now has to end: until then nobody
// else takes the lease. It is false when it is too late to start one, which
// leaves to every write a time in which it can end.
func (f *fence) until(now time.Time) (time.Time, bool) {
	renewed := f.renewed.Load()
	if renewed == nil {
		return time.Time{}, false
	}
	return renewed.Add(manager.LeaseDuration), now.Before(renewed.Add(manager.RenewDeadline))
}
