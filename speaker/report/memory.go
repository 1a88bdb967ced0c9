package report

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// entry is a Service that this node announces or reports, or for which a
// ServiceL2Status exists. Most Services of a cluster have none.
type entry struct {
	decision *desired.Decision
	// unreached says which addresses no interface announces, though decision
	// says that this node does; "" if there is none.
	unreached string
	statuses  map[string]*v1beta1.ServiceL2Status
	// gone are the versions at which objects were deleted, by name.
	gone map[string]string
	// condition is what this node wrote or found as the reporter, nil when it
	// is not the reporter; version is the Service's after that.
	condition *metav1.Condition
	version   string
	uid       types.UID
}

// entry returns the entry of key, a new one if there is none. mu is held.
func (r *Reporter) entry(key service.Key) *entry {
	e := r.entries[key]
	if e == nil {
		e = &entry{statuses: map[string]*v1beta1.ServiceL2Status{}}
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
	concerns := e.decision != nil && (e.decision.Announce || e.decision.Reports)
	if !concerns && len(e.statuses) == 0 && e.condition == nil {
		delete(r.entries, key)
		r.contests.Forget(key)
		return facts{}, false
	}
	f := facts{key: key, decision: e.decision, unreached: e.unreached, reported: e.condition != nil, sweeps: r.isFirst()}
	for _, s := range e.statuses {
		f.statuses = append(f.statuses, s)
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

// older tells whether version a of an object comes before b.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}

// noteStatus remembers a written object until the cache shows it.
func (r *Reporter) noteStatus(key service.Key, w writes, version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entry(key)
	s := w.create
	if s == nil {
		if s = e.statuses[w.statusName]; s == nil {
			return
		}
		s = s.DeepCopy()
	}
	if older(version, s.ResourceVersion) {
		return
	}
	if older(version, e.gone[w.statusName]) {
		r.contested(key) // somebody deleted it before this node knew that it was written
		return
	}
	s.ResourceVersion, s.Status = version, *w.status
	e.statuses[w.statusName] = s
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
	case svc == nil || e.decision == nil || !e.decision.Reports:
	case w.condition != nil && version != "":
		e.condition, e.version = w.condition, version
	case e.condition == nil:
		e.condition, e.version = announced(svc).DeepCopy(), svc.ResourceVersion
	}
}

// statusUID is the UID of the ServiceL2Status that is known by a name.
func (r *Reporter) statusUID(key service.Key, name string) types.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[key]; e != nil && e.statuses[name] != nil {
		return e.statuses[name].UID
	}
	return ""
}

// forgetStatus forgets an object that this node deleted.
func (r *Reporter) forgetStatus(key service.Key, name string, uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[key]; e != nil && e.statuses[name] != nil && e.statuses[name].UID == uid {
		delete(e.statuses, name)
	}
}

func (r *Reporter) uid(key service.Key) types.UID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entries[key]; e != nil {
		return e.uid
	}
	return ""
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
	if have := e.statuses[s.Name]; have != nil && older(s.ResourceVersion, have.ResourceVersion) {
		return
	}
	e.statuses[s.Name] = s
	delete(e.gone, s.Name)
	switch {
	case !r.planned:
	case r.mine(s):
		r.queue.Add(key)
	case e.decision != nil && e.decision.Reports:
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
	delete(e.statuses, s.Name)
	if e.gone == nil {
		e.gone = map[string]string{}
	}
	e.gone[s.Name] = s.ResourceVersion
	if r.mine(s) && e.decision != nil && e.decision.Announce {
		r.contested(key)
		return
	}
	r.queue.Add(key)
}

func (r *Reporter) isFirst() bool { return r.first != nil && r.first() }

// mine tells whether a ServiceL2Status is of this node.
func (r *Reporter) mine(s *v1beta1.ServiceL2Status) bool {
	return s.Labels[labelNode] == labelValue(r.me.node)
}
