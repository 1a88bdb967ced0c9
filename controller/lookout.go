package main

import (
	"context"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lookoutInterval is half of how often a leader renews its lease, or less.
const lookoutInterval = 500 * time.Millisecond

// A lookout runs in a replica that waits for the lease, and finds out whether
// another one works: it does if it renews the lease. A lease alone says little,
// since that of a replica that died stands for a while.
type lookout struct {
	loop *loop
	kube *kube
}

// NeedLeaderElection lets every replica look out.
func (o *lookout) NeedLeaderElection() bool { return false }

// Start looks out until this replica works or has seen another at work.
func (o *lookout) Start(ctx context.Context) error {
	if err := o.kube.synced(ctx); err != nil {
		// The process ends.
		return nil
	}
	tick := time.NewTicker(lookoutInterval)
	defer tick.Stop()
	var seen *metav1.MicroTime
	for !o.loop.begun.Load() {
		if renewed, ok := o.renewal(ctx); ok {
			if seen != nil && !renewed.Equal(seen) {
				o.loop.standby.Store(true)
				return nil
			}
			seen = renewed
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// renewal is when the lease was renewed last; false if nobody holds it or it
// cannot be read now.
func (o *lookout) renewal(ctx context.Context) (*metav1.MicroTime, bool) {
	var lease coordinationv1.Lease
	key := client.ObjectKey{Namespace: o.kube.namespace, Name: leaseName}
	if err := o.kube.live.Get(ctx, key, &lease); err != nil {
		return nil, false
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" || lease.Spec.RenewTime == nil {
		return nil, false
	}
	return lease.Spec.RenewTime, true
}
