package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/status"
)

// The condition of a ConfigurationState and its reasons, MetalLB's.
const (
	conditionPools    = "poolReconcilerValid"
	reasonReconciled  = "Reconciled"
	reasonConfigError = "ConfigurationError"

	// maxProblems bounds how many problems one message holds, maxSentence how
	// much of one, and maxMessage all of them, in bytes: a condition holds 32768
	// characters.
	maxProblems = 50
	maxSentence = 1000
	maxMessage  = 30000
)

// reports is what the loop remembers of the objects on which it reports: the
// pools, and the ConfigurationState. Reports are written when they are due,
// but not more often than reportInterval.
type reports struct {
	due   bool
	last  time.Time
	pools map[string]*reportPage
	state reportPage
}

// A reportPage is a page for an object other than a Service.
type reportPage struct {
	wrote  string
	flying bool
	// After tries failures in a row nothing is written before next.
	tries int
	next  time.Time
}

func (r *reports) init() { r.pools = map[string]*reportPage{} }

// report writes what is due.
func (l *loop) report(ctx context.Context) {
	now := time.Now()
	if !l.reports.due || now.Before(l.reports.last.Add(reportInterval)) {
		return
	}
	l.reports.due, l.reports.last = false, now
	usage := l.alloc.Usage()
	l.metrics.publish(usage)
	known := map[string]bool{}
	for _, u := range usage {
		known[u.Pool] = true
		l.reportPool(ctx, u)
	}
	maps.DeleteFunc(l.reports.pools, func(name string, _ *reportPage) bool { return !known[name] })
	l.reportState(ctx, metav1.NewTime(now))
}

func (l *loop) reportPool(ctx context.Context, u ipam.Usage) {
	pool := l.cluster.pool(u.Pool)
	if pool == nil {
		return
	}
	p := l.reports.pools[u.Pool]
	if p == nil {
		p = &reportPage{}
		l.reports.pools[u.Pool] = p
	}
	want := v1beta1.IPAddressPoolStatus{
		AssignedIPv4: u.AssignedIPv4, AssignedIPv6: u.AssignedIPv6,
		AvailableIPv4: u.AvailableIPv4, AvailableIPv6: u.AvailableIPv6,
	}
	// A status of zeros looks like none at all.
	if pool.Status == want && (want != v1beta1.IPAddressPoolStatus{} || p.wrote != "") {
		return
	}
	l.reportOn(ctx, p, pool.ResourceVersion, "IPAddressPool "+u.Pool, func(ctx context.Context) (string, error) {
		return l.cluster.patchPool(ctx, u.Pool, want)
	})
}

func (l *loop) reportState(ctx context.Context, now metav1.Time) {
	have := l.cluster.state()
	want := stateFor(have, l.problems, now)
	if want == nil {
		return
	}
	version := ""
	if have != nil {
		version = have.ResourceVersion
	}
	l.reportOn(ctx, &l.reports.state, version, "ConfigurationState", func(ctx context.Context) (string, error) {
		if have == nil {
			if err := l.cluster.createState(ctx); err != nil && !apierrors.IsAlreadyExists(err) {
				return "", err
			}
		}
		return l.cluster.patchState(ctx, *want)
	})
}

// reportOn starts a write on an object of which the cache has that version,
// unless the cache has yet to hear of the write before.
func (l *loop) reportOn(ctx context.Context, p *reportPage, version, what string, write func(context.Context) (string, error)) {
	if p.flying {
		l.reports.due = true
		return
	}
	if version != "" && older(version, p.wrote) {
		return
	}
	if time.Now().Before(p.next) {
		l.reports.due = true
		return
	}
	p.flying = true
	l.start(ctx, write, func(version string, err error) {
		p.flying = false
		if err == nil {
			p.wrote, p.tries, p.next = version, 0, time.Time{}
			return
		}
		p.next = time.Now().Add(min(reportInterval<<min(p.tries, 20), lastRetry))
		p.tries++
		l.reports.due = true
		if !apierrors.IsNotFound(err) {
			l.log.Error("cannot write a report", "object", what, "err", err)
		}
	})
}

// stateFor returns the status that problems call for, or nil if have says it
// already. Warnings are told and leave the configuration valid.
func stateFor(have *v1beta1.ConfigurationState, problems []config.Problem, now metav1.Time) *v1beta1.ConfigurationStateStatus {
	errs, warnings := bySeverity(problems)
	c := metav1.Condition{Type: conditionPools, Status: metav1.ConditionTrue, Reason: reasonReconciled, Message: lines(warnings)}
	want := &v1beta1.ConfigurationStateStatus{Result: v1beta1.ConfigurationValid}
	if len(errs) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonConfigError, "configuration error: "+lines(errs)
		want.Result, want.ErrorSummary = v1beta1.ConfigurationInvalid, c.Message
	}
	var old *metav1.Condition
	if have != nil {
		old = status.Find(have.Status.Conditions, conditionPools)
	}
	next, changed := status.Next(old, c, now)
	if !changed && have.Status.Result == want.Result && have.Status.ErrorSummary == want.ErrorSummary {
		return nil
	}
	want.Conditions = []metav1.Condition{next}
	return want
}

func bySeverity(problems []config.Problem) (errs, warnings []config.Problem) {
	for _, p := range problems {
		if p.Severity == config.Error {
			errs = append(errs, p)
		} else {
			warnings = append(warnings, p)
		}
	}
	return errs, warnings
}

// lines puts one problem on a line, as many as a condition holds.
func lines(problems []config.Problem) string {
	var text strings.Builder
	for i, p := range problems {
		line := shortened(sentence(p))
		if i == maxProblems || text.Len()+len(line) > maxMessage {
			fmt.Fprintf(&text, "\nand %d more", len(problems)-i)
			break
		}
		if i > 0 {
			text.WriteByte('\n')
		}
		text.WriteString(line)
	}
	return text.String()
}

// shortened cuts a sentence that quotes a very long value, and says so.
func shortened(text string) string {
	if len(text) <= maxSentence {
		return text
	}
	return fmt.Sprintf("%s… and %d more bytes", strings.ToValidUTF8(text[:maxSentence], ""), len(text)-maxSentence)
}

func sentence(p config.Problem) string {
	if p.Field == "" {
		return fmt.Sprintf("%s %s: %s", p.Kind, p.Name, p.Message)
	}
	return fmt.Sprintf("%s %s, %s: %s", p.Kind, p.Name, p.Field, p.Message)
}

// tellProblems logs the problems that are new, and tells them on the objects
// that have them.
func (l *loop) tellProblems(objects config.Objects, problems []config.Problem) {
	for _, p := range problems {
		if slices.Contains(l.problems, p) {
			continue
		}
		n := note{warning: true, reason: eventConfig, text: sentence(p)}
		if p.Severity == config.Warning {
			n.warning, n.reason = false, eventConfigWarns
		}
		l.log.Warn("a problem in the configuration", "reason", n.reason, "err", n.text)
		if about, ok := find(objects, p); ok {
			l.events.tell(about, n, actionCompile)
		}
	}
}

// find returns the object that a problem is about.
func find(objects config.Objects, p config.Problem) (corev1.ObjectReference, bool) {
	switch p.Kind {
	case "IPAddressPool":
		return among(objects.Pools, p)
	case "L2Advertisement":
		return among(objects.L2Advertisements, p)
	case "BGPAdvertisement":
		return among(objects.BGPAdvertisements, p)
	case "BFDProfile":
		return among(objects.BFDProfiles, p)
	case "Community":
		return among(objects.Communities, p)
	}
	return corev1.ObjectReference{}, false
}

func among[T any, P interface {
	*T
	metav1.Object
}](list []T, p config.Problem) (corev1.ObjectReference, bool) {
	for i := range list {
		if o := P(&list[i]); o.GetName() == p.Name && o.GetNamespace() == p.Namespace {
			return corev1.ObjectReference{
				APIVersion: v1beta1.GroupVersion.String(), Kind: p.Kind,
				Namespace: p.Namespace, Name: p.Name, UID: o.GetUID(),
			}, true
		}
	}
	return corev1.ObjectReference{}, false
}
