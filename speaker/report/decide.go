package report

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// Reasons of events, MetalLB's.
const (
	eventAssigned = "nodeAssigned"
	eventFailed   = "announceFailed"
)

// eventWithdrawn is ours, in the word of MetalLB's log.
const eventWithdrawn = "serviceWithdrawn"

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
	// layer2 and bgp are the decisions, nil where there is none; both are when
	// the plan no longer knows the Service.
	layer2, bgp *desired.Decision
	// layer2Starting and bgpStarting are true while the plan does not know yet:
	// what an earlier life of this speaker told stays as it is.
	layer2Starting, bgpStarting bool
	// unreached says why the decision to announce on layer 2 had no effect, ""
	// if it had.
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
	// bgpStatuses are the ServiceBGPStatus objects of the Service.
	bgpStatuses []*v1beta1.ServiceBGPStatus
}

// known tells whether the plan knows the Service.
func (f facts) known() bool { return f.layer2 != nil || f.bgp != nil }

// reports tells whether this node is the one that tells of the Service.
func (f facts) reports() bool {
	return f.layer2 != nil && f.layer2.Reports || f.bgp != nil && f.bgp.Reports
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
	bgp        bgpWrites
	condition  *metav1.Condition
	// forget takes the condition off the Service.
	forget bool
	events []note
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
	me.decideBGPStatus(f, &w)
	switch {
	case !f.known():
		w.forget = f.reported
	case f.there && f.reports():
		me.decideCondition(f, now, &w)
	}
	return w
}

func (me identity) decideStatus(f facts, w *writes) {
	d := f.layer2
	if f.layer2Starting {
		return
	}
	announces := f.there && d != nil && d.Announce
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
			f.reports(),
			!f.known() && f.sweeps && !f.there:
			w.remove = append(w.remove, s.Name)
		}
	}
	slices.Sort(w.remove)
	if announces && !kept {
		w.create = &v1beta1.ServiceL2Status{ObjectMeta: me.meta(name, f.key)}
		w.create.Labels[labelNode] = labelValue(me.node)
		w.status, w.statusName = &want, name
	}
}

// meta is that of an object about a Service.
func (me identity) meta(name string, key service.Key) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: me.namespace,
		Name:      name,
		Labels: map[string]string{
			labelServiceName:      labelValue(key.Name),
			labelServiceNamespace: labelValue(key.Namespace),
		},
		OwnerReferences: []metav1.OwnerReference{me.owner},
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
