package report

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/service"
)

// step takes one Service from the queue and brings its objects up to date.
func (r *Reporter) step(ctx context.Context) bool {
	key, quit := r.queue.Get()
	if quit {
		return false
	}
	defer r.queue.Done(key)
	if err := r.reconcile(ctx, key); err != nil {
		if ctx.Err() == nil {
			r.metrics.failures.Inc()
			r.log.Warn("a Service could not be reported on; it is tried again", "service", key.String(), "err", err)
		}
		r.queue.AddRateLimited(key)
		return true
	}
	r.queue.Forget(key)
	return true
}

func (r *Reporter) reconcile(ctx context.Context, key service.Key) error {
	svc, err := r.cluster.service(ctx, key)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("read the Service: %w", err)
	}
	f, ok := r.facts(key, svc)
	if !ok {
		return nil
	}
	w := r.me.decide(f, metav1.NewTime(r.now()))
	return r.apply(ctx, key, svc, w)
}

// apply carries out w. It stops at the first error; what is left is found
// again by the next attempt.
func (r *Reporter) apply(ctx context.Context, key service.Key, svc *corev1.Service, w writes) error {
	if w.replace != "" {
		if err := r.remove(ctx, key, w.replace); err != nil {
			return err
		}
	}
	if w.create != nil {
		if err := r.write(ctx, "create ServiceL2Status", func() error { return r.cluster.createStatus(ctx, w.create) }, apierrors.IsAlreadyExists); err != nil {
			return err
		}
	}
	if w.status != nil {
		var version string
		err := r.write(ctx, "write ServiceL2Status", func() (err error) {
			version, err = r.cluster.setStatus(ctx, w.statusName, *w.status)
			return err
		}, nil)
		if err != nil {
			return err
		}
		r.noteStatus(key, w, version)
	}
	for _, name := range w.remove {
		if err := r.remove(ctx, key, name); err != nil {
			return err
		}
	}
	if err := r.applyBGP(ctx, key, w.bgp); err != nil {
		return err
	}
	if err := r.applyCondition(ctx, key, svc, w); err != nil {
		return err
	}
	for _, e := range w.events {
		// An event is not worth a second condition: without a place that remembers
		// it, a retry could only repeat it.
		if err := r.write(ctx, "write an event", func() error { return r.cluster.serviceEvent(ctx, svc, e) }, nil); err != nil && ctx.Err() == nil {
			r.log.Warn("an event was lost", "service", key.String(), "reason", e.reason, "err", err)
		}
	}
	return nil
}

// applyBGP carries out what concerns the ServiceBGPStatus.
func (r *Reporter) applyBGP(ctx context.Context, key service.Key, w bgpWrites) error {
	name := bgpStatusName(key)
	if w.replace {
		if err := r.removeBGP(ctx, key, name); err != nil {
			return err
		}
	}
	if w.create != nil {
		if err := r.write(ctx, "create ServiceBGPStatus", func() error { return r.cluster.createBGPStatus(ctx, w.create) }, apierrors.IsAlreadyExists); err != nil {
			return err
		}
	}
	if w.status != nil {
		var version string
		err := r.write(ctx, "write ServiceBGPStatus", func() (err error) {
			version, err = r.cluster.setBGPStatus(ctx, name, *w.status)
			return err
		}, nil)
		if err != nil {
			return err
		}
		r.noteBGPStatus(key, w, version)
	}
	for _, name := range w.remove {
		if err := r.removeBGP(ctx, key, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reporter) applyCondition(ctx context.Context, key service.Key, svc *corev1.Service, w writes) error {
	var version string
	if w.condition != nil || w.forget {
		err := r.write(ctx, "write the Announced condition", func() (err error) {
			version, err = r.cluster.setCondition(ctx, key, r.uid(key), w.condition)
			return err
		}, replacedOrGone)
		if err != nil {
			return err
		}
	}
	r.noteCondition(key, svc, w, version)
	return nil
}

// remove deletes a ServiceL2Status, removeBGP a ServiceBGPStatus.
func (r *Reporter) remove(ctx context.Context, key service.Key, name string) error {
	return r.removeFrom(ctx, key, name, "delete ServiceL2Status", r.cluster.deleteStatus, func(e *entry) known { return &e.statuses })
}

func (r *Reporter) removeBGP(ctx context.Context, key service.Key, name string) error {
	return r.removeFrom(ctx, key, name, "delete ServiceBGPStatus", r.cluster.deleteBGPStatus, func(e *entry) known { return &e.bgpStatuses })
}

// known is a shelf, whatever the kind of its objects.
type known interface {
	uid(name string) types.UID
	forget(name string, uid types.UID)
}

// removeFrom deletes the object that is known by that name, and no other that
// took its place meanwhile.
func (r *Reporter) removeFrom(ctx context.Context, key service.Key, name, what string,
	del func(context.Context, string, types.UID) error, of func(*entry) known,
) error {
	var uid types.UID
	r.with(key, func(e *entry) { uid = of(e).uid(name) })
	if err := r.write(ctx, what, func() error { return del(ctx, name, uid) }, replacedOrGone); err != nil {
		return err
	}
	r.with(key, func(e *entry) { of(e).forget(name, uid) })
	return nil
}

// replacedOrGone is the answer to who changes or deletes an object that has
// another UID by now, or is no more.
func replacedOrGone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsConflict(err) }

// write paces and runs one write; an error for which fine is true is none.
func (r *Reporter) write(ctx context.Context, what string, do func() error, fine func(error) bool) error {
	if err := r.limit.Wait(ctx); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := do(); err != nil && (fine == nil || !fine(err)) {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
