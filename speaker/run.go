package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/heraldlb/herald/internal/manager"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/membership"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/report"
)

// collectEarly is the GOGC that suits a process on every node: it holds little
// and allocates rarely, so a smaller heap costs next to no time.
const collectEarly = 40

// run wires the rooms, and works until ctx ends or a room fails. In both cases
// it hands over what this node announces before the rooms are closed.
func run(ctx context.Context, o options, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectEarly)
	}
	for _, w := range o.warnings {
		log.Warn(w)
	}
	in := newInbox()
	var l *loop
	mo := o.process.Options("speaker", "127.0.0.1")
	mo.Cache = cacheOptions(o)
	maps.Copy(mo.Cache, report.CacheOptions(o.node))
	mo.Ready = map[string]func() error{"speaker": func() error { return l.unready() }}
	mgr, err := manager.New(log, mo)
	if err != nil {
		return err
	}
	synced, err := watch(ctx, mgr.GetCache(), o, in)
	if err != nil {
		return err
	}
	announcer, err := l2.New(l2.Config{Logger: log, Registerer: metrics.Registry, Refresh: refresh(o)})
	if err != nil {
		return err
	}
	members, runRing, err := newRing(o, mgr.GetCache(), log)
	if err != nil {
		return err
	}
	links := link.New(link.Config{Logger: log, OnChange: func(all observed.Links) {
		in.put(func(n *notes) { n.links = &all })
	}})
	reporter, err := report.New(report.Config{
		Node: o.node, Pod: o.pod, Namespace: o.process.Namespace,
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Cache: mgr.GetCache(), Logger: log, Metrics: metrics.Registry,
		First: func() bool { return l.first.Load() },
	})
	if err != nil {
		return err
	}
	l = newLoop(o, log, in, rooms{store: caches{mgr.GetCache()}, ring: members, l2: announcer, report: reporter})

	// The rooms that hand over outlive the others.
	base := context.WithoutCancel(ctx)
	last := newStage(base)
	last.run("layer 2", announcer.Run)
	last.run("membership", runRing)
	first := newStage(ctx)
	first.run("links", links.Run)
	first.run("excluded interfaces", func(ctx context.Context) error { return watchExclude(ctx, o.excludeFile, log, in) })
	first.run("manager", mgr.Start)
	first.run("caches", synced)
	first.run("report", reporter.Run)
	first.run("loop", l.run)

	select {
	case <-first.ctx.Done():
	case <-last.ctx.Done():
	}
	err = first.end()
	l.drain()
	return errors.Join(err, last.end())
}

// refresh is the period as layer 2 takes it.
func refresh(o options) time.Duration {
	if o.refresh == 0 {
		return -1 // off
	}
	return o.refresh
}

// newRing returns the membership and what runs it; the ring of one that is
// alone if membership is off.
func newRing(o options, c cache.Cache, log *slog.Logger) (ring, func(context.Context) error, error) {
	if !o.ring {
		return alone{}, func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}, nil
	}
	tuning := membership.LAN()
	if o.wan {
		tuning = membership.WAN()
	}
	content, err := os.ReadFile(o.tuningFile)
	switch {
	case err == nil:
		var warnings []string
		if tuning, warnings, err = membership.ParseTuning(content, tuning); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", o.tuningFile, err)
		}
		for _, w := range warnings {
			log.Warn(w, "path", o.tuningFile)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, nil, fmt.Errorf("read the timing of the gossip ring: %w", err)
	}
	r, err := membership.New(membership.Config{
		Node: o.node, Bind: o.bind, Port: o.port,
		Secret: membership.SecretIn(o.secretDir), Peers: callees(c), Tuning: tuning,
		Logger: log, Metrics: metrics.Registry,
	})
	if err != nil {
		return nil, nil, err
	}
	return r, r.Run, nil
}

// stage is a set of rooms that end together.
type stage struct {
	ctx    context.Context
	cancel context.CancelFunc
	group  *errgroup.Group
}

func newStage(ctx context.Context) *stage {
	ctx, cancel := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	return &stage{ctx: ctx, cancel: cancel, group: group}
}

// run starts a room. If it fails, or ends before it is told to, the stage ends.
func (s *stage) run(name string, room func(context.Context) error) {
	s.group.Go(func() error {
		err := room(s.ctx)
		if err == nil && s.ctx.Err() == nil {
			err = errors.New("ended by itself")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
}

// end tells the rooms to end, waits for them, and returns what failed first.
func (s *stage) end() error {
	s.cancel()
	return s.group.Wait()
}
