package report

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// entry is a Service that this node announces or reports, or for which a
// ServiceL2Status or ServiceBGPStatus exists. Most Services of a cluster have none.
type entry struct {
	layer2, bgp *desired.Decision
	// unreached says which addresses no interface announces, though layer2 says
	// that this node does; "" if there is none.
	unreached   string
	statuses    shelf[*v1beta1.ServiceL2Status]
	bgpStatuses shelf[*v1beta1.ServiceBGPStatus]
	// condition is what this node wrote or found as the reporter, nil when it
	// is not the reporter; version is the Service's after that.
	condition *metav1.Condition
	version   string
	uid       types.UID
}

// decisions are those that there are.
func (e *entry) decisions() []*desired.Decision {
	all := make([]*desired.Decision, 0, 2)
	for _, d := range []*desired.Decision{e.layer2, e.bgp} {
		if d != nil {
			all = append(all, d)
		}
	}
	return all
}

// set takes, or with nil drops, the decision of a protocol.
func (e *entry) set(p desired.Protocol, d *desired.Decision) {
	if p == desired.BGP {
		e.bgp = d
	} else {
		e.layer2 = d
	}
	if e.layer2 == nil || !e.layer2.Announce {
		e.unreached = ""
	}
}

// reports tells whether this node tells of the Service.
func (e *entry) reports() bool {
	return slices.ContainsFunc(e.decisions(), func(d *desired.Decision) bool { return d.Reports })
}

// concerns tells whether this node announces the Service or tells of it.
func (e *entry) concerns() bool {
	return slices.ContainsFunc(e.decisions(), func(d *desired.Decision) bool { return d.Announce || d.Reports })
}

// entry returns the entry of key, a new one if there is none. mu is held.
func (r *Reporter) entry(key service.Key) *entry {
	e := r.entries[key]
	if e == nil {
		e = &entry{}
		r.entries[key] = e
	}
	return e
}

// facts gathers what is known of key; svc is nil if there is none.
func (r *Reporter) facts(key service.Key, svc *corev1.Service) (facts, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e == nil || !r.planned {
		return facts{}, false
	}
	if !e.concerns() && len(e.statuses.objects) == 0 && len(e.bgpStatuses.objects) == 0 && e.condition == nil {
		delete(r.entries, key)
		r.contests.Forget(key)
		return facts{}, false
	}
	f := facts{
		key: key, layer2: e.layer2, bgp: e.bgp, unreached: e.unreached, reported: e.condition != nil, sweeps: r.isFirst(),
		layer2Starting: r.isStarting(key, desired.Layer2), bgpStarting: r.isStarting(key, desired.BGP),
		statuses: slices.Clone(e.statuses.objects), bgpStatuses: slices.Clone(e.bgpStatuses.objects),
	}
	if svc == nil {
		return f, true
	}
	f.there, f.generation, f.condition = true, svc.Generation, announced(svc)
	if e.condition != nil && e.uid == svc.UID && older(svc.ResourceVersion, e.version) {
		f.condition = e.condition // the cache lags behind the own write
	}
	e.uid = svc.UID
	return f, true
}

// noteStatus remembers a written object until the cache shows it.
func (r *Reporter) noteStatus(key service.Key, w writes, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(key)
	s := w.create
	if s == nil {
		have, ok := e.statuses.get(w.statusName)
		if !ok {
			return
		}
		s = have.DeepCopy()
	}
	if older(version, s.ResourceVersion) {
		return
	}
	s.ResourceVersion, s.Status = version, *w.status
	if !e.statuses.written(s) {
		r.contested(key)
	}
}

// noteBGPStatus does the same for a ServiceBGPStatus.
func (r *Reporter) noteBGPStatus(key service.Key, w bgpWrites, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(key)
	s := w.create
	if s == nil {
		have, ok := e.bgpStatuses.get(bgpStatusName(key))
		if !ok {
			return
		}
		s = have.DeepCopy()
	}
	if older(version, s.ResourceVersion) {
		return
	}
	s.ResourceVersion, s.Status = version, *w.status
	s = slimmed(s)
	if !e.bgpStatuses.written(s) {
		r.contested(key)
	}
}

// noteCondition remembers the condition that was written or is there already.
func (r *Reporter) noteCondition(key service.Key, svc *corev1.Service, w writes, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	switch {
	case e == nil:
	case w.forget:
		e.condition = nil
		r.queue.Add(key) // forgets the entry too
	case svc == nil || !e.reports():
	case w.condition != nil && version != "":
		e.condition, e.version = w.condition, version
	case e.condition == nil:
		e.condition, e.version = announced(svc).DeepCopy(), svc.ResourceVersion
	}
}

// with calls f with the entry of a Service, if there is one; mu is held.
func (r *Reporter) with(key service.Key, f func(*entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[key]; e != nil {
		f(e)
	}
}

func (r *Reporter) uid(key service.Key) (uid types.UID) {
	r.with(key, func(e *entry) { uid = e.uid })
	return uid
}

// serviceSeen notices that somebody else changed the condition, or that the
// Service itself changed.
func (r *Reporter) serviceSeen(svc *corev1.Service) {
	key := service.Key{Namespace: svc.Namespace, Name: svc.Name}
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e == nil || e.condition == nil || older(svc.ResourceVersion, e.version) {
		return
	}
	switch c := announced(svc); {
	case c == nil || !sameVerdict(*c, *e.condition):
		r.contested(key)
	case svc.Generation > c.ObservedGeneration:
		r.queue.Add(key)
	}
}

// statusKey is the Service that a ServiceL2Status is about.
func statusKey(s *v1beta1.ServiceL2Status) service.Key {
	if s.Status.ServiceName != "" {
		return service.Key{Namespace: s.Status.ServiceNamespace, Name: s.Status.ServiceName}
	}
	// Its status has yet to be written.
	return service.Key{Namespace: s.Labels[labelServiceNamespace], Name: s.Labels[labelServiceName]}
}

// statusSeen keeps the ServiceL2Status objects that are there.
func (r *Reporter) statusSeen(s *v1beta1.ServiceL2Status, gone bool) {
	key := statusKey(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone {
		r.statusGone(key, s)
		return
	}
	e := r.entry(key)
	if !e.statuses.seen(s) {
		return
	}
	switch {
	case !r.planned:
	case r.mine(s):
		r.queue.Add(key)
	case e.reports():
		// Another node says that it announces. One of the two will learn better,
		// most often within milliseconds.
		r.contested(key)
	}
}

// statusGone forgets a ServiceL2Status that somebody deleted. mu is held.
func (r *Reporter) statusGone(key service.Key, s *v1beta1.ServiceL2Status) {
	e := r.entries[key]
	if e == nil {
		return
	}
	e.statuses.lost(s)
	if r.mine(s) && e.layer2 != nil && e.layer2.Announce {
		r.contested(key)
		return
	}
	r.queue.Add(key)
}

// bgpStatusSeen keeps the ServiceBGPStatus objects that are there.
func (r *Reporter) bgpStatusSeen(s *v1beta1.ServiceBGPStatus, gone bool) {
	key := bgpStatusKey(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone {
		r.bgpStatusGone(key, s)
		return
	}
	e := r.entry(key)
	if !e.bgpStatuses.seen(s) || !r.planned || !e.reports() {
		return
	}
	switch {
	case s.Status.ServiceName == "":
		// It is being written, most likely by this node.
		r.queue.Add(key)
	case e.bgp == nil || s.Name != bgpStatusName(key) || !sameBGPStatus(s, bgpStatus(key, e.bgp.Advertisers)):
		// Another node, or a hand, says otherwise.
		r.contested(key)
	}
}

// bgpStatusGone forgets a ServiceBGPStatus that somebody deleted. mu is held.
func (r *Reporter) bgpStatusGone(key service.Key, s *v1beta1.ServiceBGPStatus) {
	e := r.entries[key]
	if e == nil {
		return
	}
	e.bgpStatuses.lost(s)
	if e.reports() && e.bgp != nil && len(e.bgp.Advertisers) > 0 {
		r.contested(key)
		return
	}
	r.queue.Add(key)
}

// bgpStatusKey is the Service that a ServiceBGPStatus is about.
func bgpStatusKey(s *v1beta1.ServiceBGPStatus) service.Key {
	if s.Status.ServiceName != "" {
		return service.Key{Namespace: s.Status.ServiceNamespace, Name: s.Status.ServiceName}
	}
	return service.Key{Namespace: s.Labels[labelServiceNamespace], Name: s.Labels[labelServiceName]}
}

func (r *Reporter) isFirst() bool { return r.first != nil && r.first() }

// mine tells whether a ServiceL2Status is of this node.
func (r *Reporter) mine(s *v1beta1.ServiceL2Status) bool {
	return s.Labels[labelNode] == labelValue(r.me.node)
}
