package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	ctrlmanager "sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/heraldlb/herald/internal/manager"
)

// leaseName names the Lease for which the replicas compete.
const leaseName = "metallb-controller"

// run wires the process and works until ctx is done.
func run(ctx context.Context, o options, log *slog.Logger) error {
	for _, w := range o.warnings {
		log.Warn(w)
	}
	lease := &fence{}
	l := &loop{inbox: newInbox(), log: log, class: o.class, mayWrite: lease.until}
	opts := o.process.Options("controller", "")
	if o.allocate {
		opts.LeaderElection = leaseName
		opts.LeaseRenewed = lease.renew
		opts.Ready = map[string]func() error{"assignments": l.check}
		opts.Cache = cacheOptions()
	}
	mgr, err := manager.New(log, opts)
	if err != nil {
		return err
	}
	k := &kube{client: mgr.GetClient(), live: mgr.GetAPIReader(), namespace: o.process.Namespace, deployment: o.deployment}
	if err := bootstrapSecret(ctx, k, o.secret, log); err != nil {
		return err
	}
	if o.allocate {
		l.cluster = k
		l.metrics = newMetrics(ctrlmetrics.Registry)
		l.events = newRecorder(k.createEvent, o.pod, l.metrics.eventsDropped.Inc, log)
		if err := k.watch(ctx, mgr.GetCache(), l.inbox); err != nil {
			return err
		}
		for _, r := range []ctrlmanager.Runnable{l, &lookout{loop: l, kube: k}} {
			if err := mgr.Add(r); err != nil {
				return fmt.Errorf("add %T: %w", r, err)
			}
		}
	}
	_, err = manager.Start(ctx, mgr, endWithin)
	return err
}

// endWithin is longer than the parts of the manager have to end, and shorter than
// the pod's terminationGracePeriodSeconds.
const endWithin = 12 * time.Second
