package report

import (
	"context"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// A node that dies, or leaves the cluster, leaves the objects of its sessions.
	sweepEvery = time.Minute
	// A speaker that restarts comes back within this, and finds them.
	deadAfter = 3 * time.Minute
)

// runSweep removes, on the first node, what speakers that are no more told of
// their sessions.
func (r *Reporter) runSweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	missed := sweeper{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.sessions.sweep:
		case <-tick.C:
		}
		if !r.isFirst() {
			clear(missed)
			continue
		}
		if err := r.sweepSessions(ctx, missed); err != nil && ctx.Err() == nil {
			r.metrics.failures.Inc()
			r.log.Warn("what speakers that are no more told of their BGP sessions could not be removed; it is tried again", "err", err)
		}
	}
}

func (r *Reporter) sweepSessions(ctx context.Context, missed sweeper) error {
	all, err := r.cluster.allSessions(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	nodes, err := r.cluster.nodes(ctx)
	if err != nil {
		return err
	}
	alive, known := r.alive()
	if !known {
		alive = nodes
	}
	for _, o := range missed.stranded(all, nodes, slices.Concat(alive, []string{r.me.node}), r.now()) {
		err := r.write(ctx, "delete BGPSessionStatus", func() error { return r.cluster.deleteSession(ctx, o.Name, o.UID) }, replacedOrGone)
		if err != nil {
			return err
		}
	}
	return nil
}

// sweeper holds since when the speakers of nodes are missed that the cluster
// has, by the value of the nodes' label.
type sweeper map[string]time.Time

// stranded returns the objects whose node the cluster no longer has, or whose
// speaker has been dead for a while.
func (s sweeper) stranded(objects []metav1.ObjectMeta, nodes, alive []string, now time.Time) []metav1.ObjectMeta {
	here, lives := values(nodes), values(alive)
	for node := range s {
		if lives[node] || !here[node] {
			delete(s, node)
		}
	}
	var all []metav1.ObjectMeta
	dead := map[string]bool{}
	for _, o := range objects {
		node := o.Labels[labelNode]
		if lives[node] {
			continue
		}
		if _, ok := s[node]; !ok && here[node] {
			s[node] = now
		}
		if !here[node] || now.Sub(s[node]) >= deadAfter {
			dead[node] = true
			all = append(all, o)
		}
	}
	// If the ring is split the node lives and tells again. It has as long again.
	for node := range s {
		if dead[node] {
			s[node] = now
		}
	}
	return all
}

// values are the label values of nodes.
func values(nodes []string) map[string]bool {
	all := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		all[labelValue(n)] = true
	}
	return all
}
