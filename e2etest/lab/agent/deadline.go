package agent

import (
	"context"
	"sync"
	"time"
)

// deadline is a time that may come nearer: the moment when a pod's processes are
// killed, which a second deletion with a shorter grace period moves.
type deadline struct {
	mu      sync.Mutex // guards all following fields
	at      time.Time  // zero: not set yet
	changed chan struct{}
}

func newDeadline(at time.Time) *deadline {
	return &deadline{at: at, changed: make(chan struct{})}
}

// shorten moves the deadline to at, unless it is nearer already.
func (d *deadline) shorten(at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.at.IsZero() && !at.Before(d.at) {
		return
	}
	d.at = at
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *deadline) get() (at time.Time, changed <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.at, d.changed
}

// context ends at the deadline, wherever it moves.
func (d *deadline) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for {
			at, changed := d.get()
			var expire <-chan time.Time
			if !at.IsZero() {
				expire = time.After(time.Until(at))
			}
			select {
			case <-ctx.Done():
				return
			case <-expire:
				return
			case <-changed:
			}
		}
	}()
	return ctx, cancel
}
