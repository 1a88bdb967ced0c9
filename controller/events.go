package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// eventSource is MetalLB's name for who tells.
	eventSource = "metallb-controller"

	actionAssign  = "Assign"
	actionCompile = "Compile"

	// After a burst, events are written at eventInterval. What does not fit in
	// the backlog is dropped and counted: the conditions say it all.
	eventBurst    = 50
	eventInterval = 50 * time.Millisecond
	eventBacklog  = 1000
	// maxEventNote is the limit of events.k8s.io/v1.
	maxEventNote = 1024
)

// A recorder writes events in the background, and never more of them than the
// API server should be bothered with.
type recorder struct {
	create   func(ctx context.Context, e *eventsv1.Event) error
	instance string
	dropped  func()
	log      *slog.Logger
	backlog  chan *eventsv1.Event
}

func newRecorder(create func(context.Context, *eventsv1.Event) error, instance string, dropped func(), log *slog.Logger) *recorder {
	return &recorder{create, instance, dropped, log, make(chan *eventsv1.Event, eventBacklog)}
}

// tell has an event written on an object. It never blocks.
func (r *recorder) tell(about corev1.ObjectReference, n note, action string) {
	now := time.Now()
	text := n.text
	if len(text) > maxEventNote {
		text = text[:maxEventNote-len("…")] + "…"
	}
	e := &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: about.Namespace,
			Name:      fmt.Sprintf("%s.%s", about.Name, digest(about.UID, n.reason, text, now.UnixNano())),
		},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: eventSource,
		ReportingInstance:   r.instance,
		Action:              action,
		Reason:              n.reason,
		Regarding:           about,
		Note:                text,
		Type:                corev1.EventTypeNormal,
	}
	if n.warning {
		e.Type = corev1.EventTypeWarning
	}
	select {
	case r.backlog <- e:
	default:
		r.dropped()
	}
}

func digest(parts ...any) string {
	sum := sha256.Sum256([]byte(fmt.Sprint(parts...)))
	return hex.EncodeToString(sum[:])[:16]
}

// run writes events until ctx is done.
func (r *recorder) run(ctx context.Context) {
	burst := eventBurst
	refill := time.NewTicker(eventInterval)
	defer refill.Stop()
	for {
		backlog := r.backlog
		if burst == 0 {
			backlog = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-refill.C:
			burst = min(burst+1, eventBurst)
		case e := <-backlog:
			burst--
			if err := r.create(ctx, e); err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
				r.log.Warn("cannot write an event", "reason", e.Reason, "err", err)
			}
		}
	}
}

func serviceReference(svc *corev1.Service) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: "v1", Kind: "Service", Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID}
}
