package report

import (
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// Changed takes the plan's changed Decisions and the Services that it no
// longer knows. The first call holds every Service.
func (r *Reporter) Changed(changed []desired.Decision, removed []service.Key) {
	r.metrics.updates.Add(float64(len(changed) + len(removed)))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range changed {
		r.change(changed[i])
	}
	for _, key := range removed {
		r.noteStarting(desired.Subject{Service: key, Protocol: desired.Layer2}, false)
		r.noteStarting(desired.Subject{Service: key, Protocol: desired.BGP}, false)
		if e := r.entries[key]; e != nil {
			e.set(desired.Layer2, nil)
			e.set(desired.BGP, nil)
			r.queue.Add(key)
		}
	}
	if !r.planned {
		r.planned = true
		for key, e := range r.entries {
			for _, s := range e.statuses.objects {
				if r.mine(s) {
					r.queue.Add(key)
				}
			}
		}
	}
}

// Drop takes Decisions that are no more though their Services are still there.
// It is called beside Changed.
func (r *Reporter) Drop(subjects []desired.Subject) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range subjects {
		r.noteStarting(s, false)
		if e := r.entries[s.Service]; e != nil {
			e.set(s.Protocol, nil)
			r.queue.AddAfter(s.Service, changeWithin)
		}
	}
}

// BecameFirst is called after Changed when this node is from now on the first:
// it clears up, and tells of problems that nobody told of yet.
func (r *Reporter) BecameFirst() {
	r.sweep()
	signal(r.config)
	signal(r.sessions.sweep)
}

// sweep looks at everything that is there, if this node is the first.
func (r *Reporter) sweep() {
	if !r.isFirst() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, e := range r.entries {
		if len(e.statuses.objects) > 0 || len(e.bgpStatuses.objects) > 0 {
			r.queue.Add(key)
		}
	}
}

// change takes one Decision. mu is held.
func (r *Reporter) change(d desired.Decision) {
	r.noteStarting(desired.Subject{Service: d.Service, Protocol: d.Protocol}, d.Reason == reason.Starting)
	e := r.entries[d.Service]
	if e == nil && !d.Announce && !d.Reports {
		return
	}
	e = r.entry(d.Service)
	moved := d.Protocol == desired.BGP && e.bgp != nil && e.bgp.Reports && d.Reports &&
		len(e.bgp.Advertisers) > 0 && len(d.Advertisers) > 0
	e.set(d.Protocol, &d)
	if !e.reports() {
		e.condition = nil
	}
	r.contests.Forget(d.Service)
	if moved {
		r.queue.AddAfter(d.Service, settleWithin)
		return
	}
	r.queue.Add(d.Service)
}

// noteStarting notes whether a decision has yet to be made. mu is held.
func (r *Reporter) noteStarting(s desired.Subject, starting bool) {
	switch {
	case starting && r.starting == nil:
		r.starting = map[desired.Subject]struct{}{s: {}}
	case starting:
		r.starting[s] = struct{}{}
	default:
		if delete(r.starting, s); len(r.starting) == 0 {
			r.starting = nil // a map does not shrink
		}
	}
}

// isStarting tells whether a decision has yet to be made. mu is held.
func (r *Reporter) isStarting(key service.Key, p desired.Protocol) bool {
	_, starting := r.starting[desired.Subject{Service: key, Protocol: p}]
	return starting
}

// Reconsider is called when the ring has changed: who disagreed with this node
// may agree now, so what is contested is tried again at once.
func (r *Reporter) Reconsider() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.entries {
		if r.contests.NumRequeues(key) > 0 {
			r.contests.Forget(key)
			r.queue.Add(key)
		}
	}
}

// contested tries again to have the last word on key, the later the more often
// somebody overruled it.
func (r *Reporter) contested(key service.Key) { r.queue.AddAfter(key, r.contests.When(key)) }
