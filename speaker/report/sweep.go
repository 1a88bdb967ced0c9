package report

import (
	"context"
	"time"
)

// runSweep removes, on the first node, what nodes that have left the cluster
// told of their sessions.
func (r *Reporter) runSweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.sessions.sweep:
		case <-tick.C:
		}
		if !r.isFirst() {
			continue
		}
		if err := r.sweepSessions(ctx); err != nil && ctx.Err() == nil {
			r.metrics.failures.Inc()
			r.log.Warn("what nodes that are gone told of their BGP sessions could not be removed; it is tried again", "err", err)
		}
	}
}

func (r *Reporter) sweepSessions(ctx context.Context) error {
	stranded, err := r.cluster.strandedSessions(ctx)
	if err != nil {
		return err
	}
	for _, o := range stranded {
		err := r.write(ctx, "delete BGPSessionStatus", func() error { return r.cluster.deleteSession(ctx, o.Name, o.UID) }, replacedOrGone)
		if err != nil {
			return err
		}
	}
	return nil
}
