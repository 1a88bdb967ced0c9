package main

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/service"
)

// launch starts writes until enough are under way.
func (l *loop) launch(ctx context.Context) {
	for l.flying < maxWrites && len(l.queue) > 0 {
		key := l.queue[0]
		l.queue[0] = service.Key{}
		l.queue = l.queue[1:]
		if p := l.pages[key]; p != nil {
			p.queued = false
			l.write(ctx, key, p)
		}
	}
}

// write starts the write of what was decided on a Service, if it does not say
// so already.
func (l *loop) write(ctx context.Context, key service.Key, p *page) {
	svc := l.cluster.service(key)
	if svc == nil || p.flying || svc.ResourceVersion != p.read || older(p.read, p.wrote) {
		// A newer version is in the inbox, or our own last write is; either
		// brings the Service back here.
		return
	}
	var want outcome
	var notes []note
	whole := true
	d, decided := l.alloc.Decision(key)
	switch {
	case decided:
		var ok bool
		if d, whole, ok = l.admit(key, p, d); !ok {
			return
		}
		want = outcomeOf(d)
		if whole {
			notes = notesFor(svc, d.Service, d, p.lost)
		}
	case svc.Spec.Type == corev1.ServiceTypeLoadBalancer || !marked(svc):
		return
	}
	patch, err := patchFor(svc, want, metav1.Now())
	probing := err == nil && patch == nil && len(p.fading) > 0
	if probing {
		patch, err = probeFor(svc)
	}
	if err != nil {
		l.log.Error("cannot write the status", "service", key.String(), "err", err)
		return
	}
	if patch == nil {
		p.lost = nil
		return
	}
	p.flying = true
	before := p.shows
	p.shows = union(before, want.addrs)
	l.start(ctx, func(ctx context.Context) (string, error) { return l.cluster.patchService(ctx, key, patch) },
		func(version string, err error) {
			p.flying = false
			switch {
			case err == nil:
				p.wrote, p.tries, p.shows = version, 0, want.addrs
				if whole {
					p.lost = nil
				}
				l.told(svc, key, want, notes)
				if probing {
					// The version stays, so no watch brings the Service back.
					l.enqueue(key, p)
				}
			case refused(err):
				p.shows = before
				fallthrough
			default:
				l.failed(key, p, err)
			}
			l.trace(key, p)
			if p.again {
				p.again = false
				l.observe(key)
			}
		})
}

func union(a, b []netip.Addr) []netip.Addr {
	all := slices.Clone(a)
	for _, addr := range b {
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	return all
}

// refused reports whether the API server answered that it did not write. After
// any other error nobody knows whether it did.
func refused(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return false
	}
	code := answer.Status().Code
	return code >= 400 && code < 500
}

// told follows a write that succeeded.
func (l *loop) told(svc *corev1.Service, key service.Key, want outcome, notes []note) {
	for _, n := range notes {
		l.events.tell(serviceReference(svc), n, actionAssign)
	}
	switch c := want.condition; {
	case c == nil:
		l.log.Info("cleared the status of a Service that is not served", "service", key.String())
	case len(want.addrs) > 0:
		l.log.Info("wrote the assignment", "service", key.String(), "ip", joined(want.addrs), "pool", want.pool, "reason", c.Reason)
	default:
		l.log.Info("the Service has no address", "service", key.String(), "reason", c.Reason, "err", c.Message)
	}
}

// failed arranges for another try of a write, unless the Service is gone.
func (l *loop) failed(key service.Key, p *page, err error) {
	if apierrors.IsNotFound(err) {
		return
	}
	if !p.retrying {
		wait := min(firstRetry<<min(p.tries, 20), lastRetry)
		p.tries++
		p.retrying = true
		l.later.add(retry{time.Now().Add(wait), key})
	}
	if apierrors.IsConflict(err) {
		// Somebody else wrote first, and the watch is about to say what.
		l.log.Debug("the Service changed while its status was written", "service", key.String())
		return
	}
	l.metrics.updateErrors.Inc()
	l.log.Error("cannot write the status", "service", key.String(), "err", err)
}

// retry looks again at the Services whose writes failed a while ago.
func (l *loop) retry(now time.Time) {
	for {
		key, ok := l.later.take(now)
		if !ok {
			return
		}
		if p := l.pages[key]; p != nil {
			p.retrying = false
			l.observe(key)
		}
	}
}

// start runs a write beside the loop; apply runs in the loop when it ended.
func (l *loop) start(ctx context.Context, write func(context.Context) (string, error), apply func(string, error)) {
	l.flying++
	now := time.Now()
	end := now.Add(writeTimeout)
	// Asked before the goroutine starts: if the process is stopped in between,
	// the time is over when it goes on.
	if until, _ := l.mayWrite(now); until.Before(end) {
		end = until
	}
	l.writers.Go(func() {
		limited, cancel := context.WithDeadline(ctx, end)
		defer cancel()
		version, err := write(limited)
		select {
		case l.done <- written{apply, version, err}:
		case <-ctx.Done():
		}
	})
}
