package manager

import (
	"context"
	"time"
)

// starter is the part of a manager that Start needs.
type starter interface {
	Start(ctx context.Context) error
}

// Start runs a manager until ctx ends, and then waits for its end, but no longer
// than within: left is true if it has not ended by then. The process must exit
// soon after Start has returned.
//
// The bound is not for slow servers alone. A manager of controller-runtime
// v0.25 that is told to end before its caches have synced never does, and keeps
// a processor busy: with the API server out of reach the kubelet had to kill
// the pod after its whole grace period.
func Start(ctx context.Context, mgr starter, within time.Duration) (left bool, err error) {
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	select {
	case err = <-ended:
		return false, err
	case <-ctx.Done():
	}
	select {
	case err = <-ended:
		return false, err
	case <-time.After(within):
		return true, nil
	}
}
