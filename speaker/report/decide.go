package report

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// Reasons of events, MetalLB's.
const (
	eventAssigned = "nodeAssigned"
	eventFailed   = "announceFailed"
)

// identity is who writes.
type identity struct {
	node      string
	namespace string
	// owner is what the objects are deleted with.
	owner metav1.OwnerReference
}

// facts is all that concerns one Service.
type facts struct {
	key service.Key
	// decision is nil when the plan no longer knows the Service.
	decision *desired.Decision
	// unreached says why the decision to announce had no effect, "" if it had.
	unreached string
	// reported is true if this node was the reporter until now, sweeps if it is
	// the one that clears up after nodes that are no more.
	reported, sweeps bool
	// there is false when the Service is gone, or is no LoadBalancer any more;
	// condition and generation are then meaningless.
	there      bool
	generation int64
	condition  *metav1.Condition
	// statuses are the ServiceL2Status objects of the Service, of all nodes.
	statuses []*v1beta1.ServiceL2Status
}

// writes is what to do about one Service, in the order of the fields.
type writes struct {
	// replace is the name of an object to delete before create.
	replace string
	create  *v1beta1.ServiceL2Status
	// status is written to the object of this name.
	status     *v1beta1.ServiceL2StatusStatus
	statusName string
	remove     []string
	condition  *metav1.Condition
	// forget takes the condition off the Service.
	forget bool
	event  *note
}

// note is an event on a Service.
type note struct {
	warning      bool
	reason, text string
}

// decide returns the writes that lead from what is there to what should be.
// When nothing has changed it returns the zero value.
func (me identity) decide(f facts, now metav1.Time) writes {
	var w writes
	me.decideStatus(f, &w)
	switch {
	case f.decision == nil:
		w.forget = f.reported
	case f.there && f.decision.Reports:
		me.decideCondition(f, now, &w)
	}
	return w
}

func (me identity) decideStatus(f facts, w *writes) {
	d := f.decision
	announces := f.there && d != nil && d.Announce && d.Protocol == desired.Layer2
	name := statusName(f.key, me.node)
	var want v1beta1.ServiceL2StatusStatus
	if announces {
		want = me.status(f.key, d.Interfaces)
	}
	kept := false
	for _, s := range f.statuses {
		switch {
		case s.DeletionTimestamp != nil:
		case announces && s.Name == name && ownedBy(s, me.owner):
			kept = true
			if !sameStatus(s.Status, want) {
				w.status, w.statusName = &want, name
			}
		case announces && s.Name == name:
			// It would go with an owner that is not ours, such as a DaemonSet that
			// was made anew.
			w.replace = name
		case s.Labels[labelNode] == labelValue(me.node), // a leftover, or by another hand
			d != nil && d.Reports,
			d == nil && f.sweeps && !f.there:
			w.remove = append(w.remove, s.Name)
		}
	}
	slices.Sort(w.remove)
	if announces && !kept {
		w.create = &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{
			Namespace: me.namespace,
			Name:      name,
			Labels: map[string]string{
				labelNode:             labelValue(me.node),
				labelServiceName:      labelValue(f.key.Name),
				labelServiceNamespace: labelValue(f.key.Namespace),
			},
			OwnerReferences: []metav1.OwnerReference{me.owner},
		}}
		w.status, w.statusName = &want, name
	}
}

// status is what a ServiceL2Status of this node says. No interfaces means all.
func (me identity) status(key service.Key, interfaces []string) v1beta1.ServiceL2StatusStatus {
	s := v1beta1.ServiceL2StatusStatus{Node: me.node, ServiceName: key.Name, ServiceNamespace: key.Namespace}
	for _, name := range slices.Sorted(slices.Values(interfaces)) {
		s.Interfaces = append(s.Interfaces, v1beta1.InterfaceInfo{Name: name})
	}
	return s
}

func sameStatus(a, b v1beta1.ServiceL2StatusStatus) bool {
	return a.Node == b.Node && a.ServiceName == b.ServiceName && a.ServiceNamespace == b.ServiceNamespace &&
		slices.Equal(a.Interfaces, b.Interfaces)
}

func ownedBy(o metav1.Object, owner metav1.OwnerReference) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(r metav1.OwnerReference) bool { return r.UID == owner.UID })
}

func (me identity) decideCondition(f facts, now metav1.Time, w *writes) {
	d := f.decision
	want := metav1.Condition{
		Type:               ConditionAnnounced,
		Status:             metav1.ConditionFalse,
		Reason:             string(d.Reason),
		Message:            d.Message,
		ObservedGeneration: f.generation,
		LastTransitionTime: now,
	}
	announced := d.Announce && f.unreached == ""
	switch {
	case announced:
		want.Status = metav1.ConditionTrue
		want.Message = fmt.Sprintf("announcing from node %q with protocol %q", me.node, d.Protocol)
	case d.Announce:
		want.Reason = string(reason.InterfaceMissing)
		want.Message = fmt.Sprintf("node %q owns the Service and cannot announce %s", me.node, f.unreached)
	}
	if f.condition != nil {
		if f.condition.Status == want.Status {
			want.LastTransitionTime = f.condition.LastTransitionTime
		}
		if sameVerdict(*f.condition, want) {
			if f.condition.ObservedGeneration != want.ObservedGeneration {
				w.condition = &want
			}
			return
		}
	}
	w.condition = &want
	switch {
	case announced:
		w.event = &note{reason: eventAssigned, text: want.Message}
	case want.Reason == string(reason.InterfaceMissing):
		w.event = &note{warning: true, reason: eventFailed, text: want.Message}
	}
}

func sameVerdict(a, b metav1.Condition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && a.Message == b.Message
}

// announced returns the condition of a Service, nil if it has none.
func announced(svc *corev1.Service) *metav1.Condition {
	for i := range svc.Status.Conditions {
		if c := &svc.Status.Conditions[i]; c.Type == ConditionAnnounced {
			return c
		}
	}
	return nil
}
