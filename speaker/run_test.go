package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/speaker/observed"
)

// diary notes what happens in which order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, line)
}

// room works until it is told to end, and takes its time then.
func (d *diary) room(name string, ending time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		time.Sleep(ending)
		d.note(name + " ended")
		return nil
	}
}

func TestTheDrainWaitsForNoServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		base := context.WithoutCancel(ctx)
		p := process{heart: newStage(ctx), body: newStage(base), hands: newStage(base), drain: func() {
			time.Sleep(tellWithin + handOver)
			d.note("drained")
		}}
		p.heart.run("loop", d.room("loop", 0))
		p.body.run("manager", d.room("manager", serversWithin))
		p.hands.run("ring", d.room("ring", time.Second))
		time.AfterFunc(time.Minute, cancel)
		start := time.Now()
		if err := p.live(); err != nil {
			t.Error(err)
		}
		want := []string{"loop ended", "drained", "manager ended", "ring ended"}
		if diff := cmp.Diff(want, d.lines); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		if took := time.Since(start) - time.Minute; took >= 2*time.Second {
			t.Errorf("it took %s at the worst; old manifests give 2 s", took)
		}
	})
}

// Whatever room fails, what this node announces is handed over while the rooms
// that do so still work.
func TestAFailureDrainsToo(t *testing.T) {
	for _, which := range []string{"heart", "body", "hands"} {
		t.Run(which, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				base := t.Context()
				p := process{heart: newStage(base), body: newStage(base), hands: newStage(base), drain: func() { d.note("drained") }}
				stages := map[string]*stage{"heart": p.heart, "body": p.body, "hands": p.hands}
				for name, s := range stages {
					s.run(name, d.room(name, time.Second))
				}
				stages[which].run("broken", func(context.Context) error {
					time.Sleep(time.Minute)
					return errors.New("out of sockets")
				})
				if err := p.live(); err == nil || err.Error() != "broken: out of sockets" {
					t.Errorf("error %v, want that of the broken room", err)
				}
				got := strings.Join(d.lines, ", ")
				if !strings.Contains(got, "drained") || strings.Index(got, "heart ended") > strings.Index(got, "drained") {
					t.Errorf("order: %s; want the drain after the heart's end", got)
				}
			})
		})
	}
}

type startFunc func(context.Context) error

func (f startFunc) Start(ctx context.Context) error { return f(ctx) }

func TestAServerThatHangsIsNoFailure(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	broken := startFunc(func(context.Context) error { return errors.New("no cache") })
	if err := startManager(t.Context(), broken, log); err == nil {
		t.Error("the failure of a manager at work was lost")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := startManager(ctx, broken, log); err != nil {
		t.Errorf("the manager was told to end, and %v ended the process with a failure", err)
	}
}

func TestUnreachedNamesEachInterface(t *testing.T) {
	failed := observed.L2Address{Failures: []observed.L2Failure{{Interface: "eth0", Message: "It is down."}, {Message: "No other."}}}
	half := failed
	half.Interfaces = []string{"eth1"}
	for name, tt := range map[string]struct {
		got, want string
	}{
		"none announces":       {unreached(failed, true), "eth0: It is down. No other."},
		"one announces":        {unreached(half, true), ""},
		"nobody asked for one": {unreached(observed.L2Address{}, false), ""},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", name, tt.got, tt.want)
		}
	}
}
