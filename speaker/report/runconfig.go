package report

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
)

// maxTold bounds the memory of problems that were told by events.
const maxTold = 1000

// runConfig keeps the ConfigurationState and tells the objects' problems.
func (r *Reporter) runConfig(ctx context.Context) {
	told := map[config.Problem]bool{}
	retry := 100 * time.Millisecond
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.config:
		case <-timer.C:
		}
		if err := r.writeState(ctx); err != nil {
			if ctx.Err() == nil {
				r.log.Warn("the ConfigurationState could not be written; it is tried again", "err", err)
			}
			timer.Reset(retry)
			retry = min(2*retry, 30*time.Second)
			continue
		}
		retry = 100 * time.Millisecond
		r.tellProblems(ctx, told)
	}
}

// writeState brings the ConfigurationState of this node up to date, and makes
// it again if somebody deleted it.
func (r *Reporter) writeState(ctx context.Context) error {
	r.mu.Lock()
	have, problems, compiled := r.state, r.problems, r.compiled
	r.mu.Unlock()
	if !compiled {
		return nil
	}
	want := decideState(have, problems, metav1.NewTime(r.now()))
	if want == nil {
		return nil
	}
	if have == nil {
		have = r.me.newState()
		if err := r.write(ctx, "create ConfigurationState", func() error { return r.cluster.createState(ctx, have) }, apierrors.IsAlreadyExists); err != nil {
			return err
		}
	}
	var version string
	err := r.write(ctx, "write ConfigurationState", func() (err error) {
		version, err = r.cluster.setState(ctx, have.Name, *want)
		return err
	}, nil)
	if err != nil {
		return err
	}
	have = have.DeepCopy()
	have.ResourceVersion, have.Status = version, *want
	r.mu.Lock()
	if r.state == nil || older(r.state.ResourceVersion, version) {
		r.state = have
	}
	r.mu.Unlock()
	return nil
}

// tellProblems writes an event on each object with a problem that was not told
// before.
func (r *Reporter) tellProblems(ctx context.Context, told map[config.Problem]bool) {
	r.mu.Lock()
	problems := r.problems
	r.mu.Unlock()
	if !r.isFirst() {
		return
	}
	now := map[config.Problem]bool{}
	for _, p := range problems[:min(len(problems), maxTold)] {
		now[p] = true
		if told[p] {
			continue
		}
		if err := r.write(ctx, "write an event", func() error { return r.cluster.problemEvent(ctx, p) }, apierrors.IsAlreadyExists); err != nil && ctx.Err() == nil {
			r.log.Warn("an event was lost", "kind", p.Kind, "name", p.Name, "err", err)
		}
		told[p] = true
	}
	for p := range told {
		if !now[p] {
			delete(told, p)
		}
	}
}

// stateSeen keeps the ConfigurationState of this node as it is there.
func (r *Reporter) stateSeen(s *v1beta1.ConfigurationState, gone bool) {
	if s.Name != stateName(r.me.node) {
		return
	}
	r.mu.Lock()
	switch {
	case gone:
		r.state = nil
	case r.state == nil || !older(s.ResourceVersion, r.state.ResourceVersion):
		r.state = s
	}
	r.mu.Unlock()
	signal(r.config)
}
