package manager_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/manager"
)

// fakeManager ends with err, so long after it was told to; negative means never.
type fakeManager struct {
	takes time.Duration
	err   error
	quit  chan struct{}
}

func (f fakeManager) Start(ctx context.Context) error {
	<-ctx.Done()
	if f.takes < 0 {
		<-f.quit
	}
	time.Sleep(f.takes)
	return f.err
}

func TestTheEndOfAManagerIsNotAwaitedForEver(t *testing.T) {
	failed := errors.New("failed")
	for _, tt := range []struct {
		name string
		mgr  fakeManager
		left bool
		err  error
	}{
		{"one that ends at once", fakeManager{}, false, nil},
		{"one that ends in time, with an error", fakeManager{takes: 900 * time.Millisecond, err: failed}, false, failed},
		{"one that is slow", fakeManager{takes: 1100 * time.Millisecond, err: failed}, true, nil},
		{"one that never ends", fakeManager{takes: -1}, true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.mgr.quit = make(chan struct{})
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Minute, cancel)
				left, err := manager.Start(ctx, tt.mgr, time.Second)
				if left != tt.left || !errors.Is(err, tt.err) {
					t.Errorf("left %t, error %v; want %t, %v", left, err, tt.left, tt.err)
				}
				close(tt.mgr.quit)
				time.Sleep(time.Minute) // the slow one ends, too
			})
		})
	}
}
