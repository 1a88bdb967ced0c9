package index

import (
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/plan"
)

// Set adds or changes a Service. Only Services that this speaker serves belong
// here; for any other call Delete.
func (x *Index) Set(s plan.Service) {
	e, ok := x.services[s.Key]
	if ok && e.service.Service == s.Service && x.equalEndpoints(e.service.Endpoints, s.Endpoints) {
		return
	}
	if ok && slices.Equal(e.service.Holds(), s.Holds()) && e.service.Created.Equal(s.Created) {
		// It stays where it is in its group.
		e.service = s
		e.group.services[slices.Index(e.group.entries, e)] = s
		x.touch(e.group)
		return
	}
	var touched []*group
	if ok {
		touched = append(touched, e.group)
		x.release(e)
		e.service = s
	} else {
		e = &entry{service: s}
		x.services[s.Key] = e
		if old := x.removed[s.Key]; old != nil {
			// It is another one of that name. What was said of the old one is to be
			// said again, or to be dropped.
			for i, d := range old.decisions {
				if d != nil {
					e.decisions[i] = &desired.Decision{}
				}
			}
			delete(x.removed, s.Key)
		}
	}
	for _, a := range s.Holds() {
		for _, other := range x.holders[a] {
			touched = append(touched, other.group)
		}
		if !slices.Contains(x.holders[a], e) {
			x.holders[a] = append(x.holders[a], e)
		}
	}
	x.regroup(touched, e)
}

// equalEndpoints tells whether two answers to "who can serve" are the same.
// How many a node has matters to this node alone, for its weight.
func (x *Index) equalEndpoints(a, b service.Endpoints) bool {
	if a.Any != b.Any || len(a.Nodes) != len(b.Nodes) || a.Nodes[x.self] != b.Nodes[x.self] {
		return false
	}
	for node := range a.Nodes {
		if b.Nodes[node] == 0 {
			return false
		}
	}
	return true
}

// Delete removes a Service.
func (x *Index) Delete(key service.Key) {
	e, ok := x.services[key]
	if !ok {
		return
	}
	x.release(e)
	delete(x.services, key)
	if x.removed == nil {
		x.removed = map[service.Key]*entry{}
	}
	x.removed[key] = e
	x.bgp.claim(e, nil)
	x.regroup([]*group{e.group}, nil)
}

// release removes e from the holders of its addresses.
func (x *Index) release(e *entry) {
	for _, a := range e.service.Holds() {
		rest := slices.DeleteFunc(x.holders[a], func(o *entry) bool { return o == e })
		if len(rest) == 0 {
			delete(x.holders, a)
		} else {
			x.holders[a] = rest
		}
	}
}

// regroup dissolves the touched groups and forms new ones of their Services,
// as far as they still exist, and of extra, which may be nil.
func (x *Index) regroup(touched []*group, extra *entry) {
	var free []plan.Service
	last := map[netip.Addr]plan.Election{}
	if extra != nil {
		free = append(free, extra.service)
	}
	for _, g := range touched {
		if g.gone {
			continue // met twice
		}
		g.gone = true
		delete(x.groups, g)
		x.orphans = append(x.orphans, g.announced...)
		last[g.election.Address()] = g.election
		for _, e := range g.entries {
			if e != extra && x.services[e.service.Key] == e {
				free = append(free, e.service)
			}
		}
	}
	for _, services := range plan.Groups(free) {
		g := &group{services: services}
		if len(services[0].Addresses) > 0 {
			g.election = last[services[0].Addresses[0]]
		}
		for _, s := range services {
			e := x.services[s.Key]
			e.group, g.entries = g, append(g.entries, e)
		}
		x.groups[g] = struct{}{}
		x.touch(g)
	}
}

func (x *Index) touch(g *group) {
	if !g.dirty {
		g.dirty = true
		x.dirty = append(x.dirty, g)
	}
}
