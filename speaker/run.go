package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/heraldlb/herald/internal/manager"
	"github.com/heraldlb/herald/speaker/bfd/udp"
	"github.com/heraldlb/herald/speaker/bgp/gobgp"
	"github.com/heraldlb/herald/speaker/l2"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/membership"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/report"
)

// collectEarly is the GOGC that suits a process on every node: it holds little
// and allocates rarely, so a smaller heap costs next to no time.
const collectEarly = 40

// serversWithin bounds how long the servers for probes and metrics take to end:
// a connection that was opened and never used would hold them for 5 s. Old
// manifests kill the process 2 s after it was told to end.
const serversWithin = 500 * time.Millisecond

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
	mo.GracePeriod = serversWithin
	mo.Ready = map[string]func() error{"speaker": func() error { return l.unready() }}
	mgr, err := manager.New(log, mo)
	if err != nil {
		return err
	}
	synced, err := watch(ctx, mgr.GetCache(), o, in)
	if err != nil {
		return err
	}
	var reporter *report.Reporter
	announcer, err := l2.New(l2.Config{
		Logger: log, Registerer: metrics.Registry, Refresh: refresh(o),
		OnChange: func() { reporter.Reached() },
	})
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
	sessionsChanged := func() { in.put(func(n *notes) { n.sessions = true }) }
	sessions, err := gobgp.New(gobgp.Config{Logger: log, Registerer: metrics.Registry, OnChange: sessionsChanged})
	if err != nil {
		return err
	}
	forwarding, err := udp.New(udp.Config{Logger: log, Registerer: metrics.Registry, OnChange: sessionsChanged})
	if err != nil {
		return err
	}
	reporter, err = report.New(report.Config{
		Node: o.node, Pod: o.pod, Namespace: o.process.Namespace,
		Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), Cache: mgr.GetCache(), Logger: log, Metrics: metrics.Registry,
		First:     func() bool { return l.first.Load() },
		Unreached: func(a netip.Addr) string { return unreached(announcer.ObservedAddress(a)) },
		Sessions:  func() (observed.BGP, observed.BFD) { return sessions.Observed(), forwarding.Observed() },
		Alive:     func() ([]string, bool) { return alive(members.Members()) },
	})
	if err != nil {
		return err
	}
	l = newLoop(o, log, in, rooms{
		store: caches{mgr.GetCache()}, ring: members, l2: announcer, bgp: sessions, bfd: forwarding, report: reporter,
	})

	// Only the heart ends with ctx; the drain comes before the end of the rest.
	// The report belongs to it: once nothing is decided here any more, the heirs
	// tell what is so, and nobody may contradict them.
	base := context.WithoutCancel(ctx)
	p := process{heart: newStage(ctx), body: newStage(base), hands: newStage(base), drain: l.drain}
	p.hands.run("layer 2", announcer.Run)
	p.hands.run("BGP", sessions.Run)
	p.hands.run("BFD", forwarding.Run)
	p.hands.run("membership", runRing)
	p.body.run("links", links.Run)
	p.body.run("excluded interfaces", func(ctx context.Context) error { return watchExclude(ctx, o.excludeFile, log, in) })
	p.body.run("manager", func(ctx context.Context) error { return startManager(ctx, mgr, log) })
	p.body.run("caches", synced)
	p.heart.run("report", reporter.Run)
	p.heart.run("loop", l.run)
	return p.live()
}

// alive are the nodes whose speakers are in the ring; known is false while the
// ring cannot tell.
func alive(m observed.Members) (nodes []string, known bool) {
	for _, member := range m.Members {
		nodes = append(nodes, member.Node)
	}
	return nodes, m.Enabled && m.Settled
}

// startManager runs the manager. Once it was told to end, one that takes too
// long is no failure: the process ends, and the manager with it.
func startManager(ctx context.Context, mgr interface {
	Start(ctx context.Context) error
}, log *slog.Logger) error {
	left, err := manager.Start(ctx, mgr, serversWithin+time.Second/2)
	if left || err != nil && ctx.Err() != nil {
		log.Info("the manager did not end in time", "err", err)
		return nil
	}
	return err
}

// unreached says why no interface announces an address; "" if one does, or if
// none should.
func unreached(o observed.L2Address, wanted bool) string {
	if !wanted || len(o.Interfaces) > 0 {
		return ""
	}
	var why []string
	for _, f := range o.Failures {
		if f.Interface == "" {
			why = append(why, f.Message)
		} else {
			why = append(why, f.Interface+": "+f.Message)
		}
	}
	return strings.Join(why, " ")
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
	tuning, err := o.tuning(log)
	if err != nil {
		return nil, nil, err
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

// tuning is the timing of the gossip ring: a profile, and what the file changes.
func (o options) tuning(log *slog.Logger) (membership.Tuning, error) {
	profile := membership.LAN()
	if o.wan {
		profile = membership.WAN()
	}
	content, err := os.ReadFile(o.tuningFile)
	if errors.Is(err, os.ErrNotExist) {
		return profile, nil
	} else if err != nil {
		return profile, fmt.Errorf("read the timing of the gossip ring: %w", err)
	}
	tuning, warnings, err := membership.ParseTuning(content, profile)
	if err != nil {
		return profile, fmt.Errorf("read %s: %w", o.tuningFile, err)
	}
	for _, w := range warnings {
		log.Warn(w, "path", o.tuningFile)
	}
	return tuning, nil
}

// process is the rooms in the order in which they end.
type process struct {
	// heart decides, and tells the cluster what was decided.
	heart *stage
	// body is what the heart learns from.
	body *stage
	// hands are what the drain works with.
	hands *stage
	// drain hands over what is announced. Nothing decides any more.
	drain func()
}

// live waits until a stage ends, ends all of them and returns what failed. The
// drain comes before everything that may take its time.
func (p process) live() error {
	select {
	case <-p.heart.ctx.Done():
	case <-p.body.ctx.Done():
	case <-p.hands.ctx.Done():
	}
	err := p.heart.end()
	p.drain()
	p.body.cancel() // so that it ends beside the hands
	return errors.Join(err, p.hands.end(), p.body.end())
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
