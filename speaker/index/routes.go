package index

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/plan"
)

// routes keep what the peers are told, by prefix. An event costs what the
// prefixes of one Service cost, and these what their bunches cost.
type routes struct {
	prefixes map[netip.Prefix]*route
	dirty    []*route
	// shared holds the attributes that any route has, by what they say.
	shared map[string]*holding
	// claims, told and key are room to work in.
	claims []plan.Claim
	told   []plan.Told
	key    []byte
}

// route is one prefix.
type route struct {
	prefix  netip.Prefix
	bunches []bunch     // none once nobody offers it
	told    []plan.Told // in the order of peers
	dirty   bool
}

// holding counts the routes that have the same attributes.
type holding struct {
	attributes *desired.Attributes
	routes     int
}

func newRoutes() routes {
	return routes{prefixes: map[netip.Prefix]*route{}, shared: map[string]*holding{}}
}

// claim puts offers in place of those that e made before. It does not keep the
// slice.
func (r *routes) claim(e *entry, offers []plan.Offer) {
	if slices.EqualFunc(e.offers, offers, plan.Offer.Equal) && (len(offers) == 0 || e.born.Equal(e.service.Created)) {
		return
	}
	for _, o := range e.offers {
		at := r.prefixes[o.Prefix]
		at.bunches = leave(at.bunches, e)
		r.touch(at)
	}
	for _, o := range offers {
		at := r.prefixes[o.Prefix]
		if at == nil {
			at = &route{prefix: o.Prefix}
			r.prefixes[o.Prefix] = at
		}
		at.bunches = join(at.bunches, e, o)
		r.touch(at)
	}
	e.offers, e.born = append(e.offers[:0], offers...), e.service.Created
}

func (r *routes) touch(at *route) {
	if !at.dirty {
		at.dirty = true
		r.dirty = append(r.dirty, at)
	}
}

// flush decides again on the prefixes that somebody began or ceased to offer, and returns
// what is different now.
func (r *routes) flush() desired.BGPChange {
	var change desired.BGPChange
	for _, at := range r.dirty {
		at.dirty = false
		r.claims = r.claims[:0]
		for i := range at.bunches {
			r.claims = append(r.claims, at.bunches[i].claim(len(at.bunches) == 1))
		}
		r.told = plan.Merge(r.told[:0], r.claims)
		change = r.replace(change, at)
		if len(at.bunches) == 0 {
			delete(r.prefixes, at.prefix)
		}
	}
	clear(r.claims[:cap(r.claims)])
	r.dirty = nil
	for peer, c := range change {
		slices.SortFunc(c.Withdraw, netip.Prefix.Compare)
		change[peer] = c
	}
	return change
}

// replace puts r.told in place of what the peers were told of a prefix, and
// adds the differences to change.
func (r *routes) replace(change desired.BGPChange, at *route) desired.BGPChange {
	old := at.told
	for i := range r.told {
		now := &r.told[i]
		for len(old) > 0 && old[0].Peer < now.Peer {
			change = withdraw(change, old[0].Peer, at.prefix)
			old = old[1:]
		}
		now.Attributes = r.hold(now.Attributes)
		if len(old) > 0 && old[0].Peer == now.Peer {
			same := old[0].Attributes == now.Attributes
			old = old[1:]
			if same {
				continue
			}
		}
		change = announce(change, now.Peer, at.prefix, now.Attributes)
	}
	for _, o := range old {
		change = withdraw(change, o.Peer, at.prefix)
	}
	for _, o := range at.told {
		r.release(o.Attributes)
	}
	at.told = append(at.told[:0], r.told...)
	return change
}

func announce(change desired.BGPChange, peer string, prefix netip.Prefix, a *desired.Attributes) desired.BGPChange {
	if change == nil {
		change = desired.BGPChange{}
	}
	c := change[peer]
	if c.Announce == nil {
		c.Announce = desired.Routes{}
		change[peer] = c
	}
	c.Announce[prefix] = a
	return change
}

func withdraw(change desired.BGPChange, peer string, prefix netip.Prefix) desired.BGPChange {
	if change == nil {
		change = desired.BGPChange{}
	}
	c := change[peer]
	c.Withdraw = append(c.Withdraw, prefix)
	change[peer] = c
	return change
}

// hold returns the one value that all routes with equal attributes have.
func (r *routes) hold(a *desired.Attributes) *desired.Attributes {
	r.key = appendAttributes(r.key[:0], a)
	h := r.shared[string(r.key)]
	if h == nil {
		h = &holding{attributes: a}
		r.shared[string(r.key)] = h
	}
	h.routes++
	return h.attributes
}

// release undoes one hold.
func (r *routes) release(a *desired.Attributes) {
	r.key = appendAttributes(r.key[:0], a)
	h := r.shared[string(r.key)]
	if h.routes--; h.routes == 0 {
		delete(r.shared, string(r.key))
	}
}

// appendAttributes writes everything that Attributes.Equal compares.
func appendAttributes(to []byte, a *desired.Attributes) []byte {
	to = binary.BigEndian.AppendUint32(to, a.LocalPref)
	to = binary.BigEndian.AppendUint64(to, uint64(a.Weight))
	to = append(to, a.Prepend)
	if a.MED != nil {
		to = binary.BigEndian.AppendUint32(append(to, 1), *a.MED)
	} else {
		to = append(to, 0)
	}
	for _, c := range a.Communities {
		to = append(to, byte(c.Kind))
		for _, f := range c.Fields {
			to = binary.BigEndian.AppendUint32(to, f)
		}
	}
	return to
}

// all is a copy of everything.
func (r *routes) all() desired.BGPRoutes {
	all := desired.BGPRoutes{}
	for prefix, at := range r.prefixes {
		for _, t := range at.told {
			if all[t.Peer] == nil {
				all[t.Peer] = desired.Routes{}
			}
			all[t.Peer][prefix] = t.Attributes
		}
	}
	return all
}
