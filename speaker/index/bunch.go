package index

import (
	"slices"

	"github.com/heraldlb/herald/speaker/plan"
)

// bunch is Services that offer a prefix with the same attributes, such as most
// of those in an aggregate. One that comes or goes costs no look at what the
// others offer.
type bunch struct {
	offer   plan.Offer // its weight is the sum
	members []member
	// oldest is nil while it is not known.
	oldest *entry
}

// member is one Service of a bunch.
type member struct {
	by     *entry
	weight int
}

// join adds the offer of e to the bunches.
func join(bunches []bunch, e *entry, o plan.Offer) []bunch {
	i := slices.IndexFunc(bunches, func(b bunch) bool { return b.offer.Alike(o) })
	if i < 0 {
		return append(bunches, bunch{offer: o, members: []member{{e, o.Weight}}, oldest: e})
	}
	b := &bunches[i]
	b.members = append(b.members, member{e, o.Weight})
	b.offer.Weight += o.Weight
	if b.oldest != nil && plan.Older(e.service.Service, b.oldest.service.Service) {
		b.oldest = e
	}
	return bunches
}

// leave takes what e offers out of the bunches.
func leave(bunches []bunch, e *entry) []bunch {
	for i := range bunches {
		b := &bunches[i]
		at := slices.IndexFunc(b.members, func(m member) bool { return m.by == e })
		if at < 0 {
			continue
		}
		last := len(b.members) - 1
		if last == 0 {
			return slices.Delete(bunches, i, i+1)
		}
		b.offer.Weight -= b.members[at].weight
		b.members[at] = b.members[last]
		b.members[last] = member{}
		b.members = b.members[:last]
		if b.oldest == e {
			b.oldest = nil
		}
		return bunches
	}
	return bunches
}

// claim is what the bunch wants. Who is the oldest matters if there is another
// bunch to agree with.
func (b *bunch) claim(alone bool) plan.Claim {
	if b.oldest == nil && !alone {
		for _, m := range b.members {
			if b.oldest == nil || plan.Older(m.by.service.Service, b.oldest.service.Service) {
				b.oldest = m.by
			}
		}
	}
	by := b.members[0].by
	if b.oldest != nil {
		by = b.oldest
	}
	return plan.Claim{Service: by.service.Service, Offer: b.offer}
}
