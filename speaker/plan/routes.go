package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/desired"
)

// terms are what the peers of a node are told of a Service's addresses of one
// family, with one prefix length.
type terms struct {
	family families
	bits   int
	// to are the peers in name order.
	to []term
	// weighs is true if any of them wants to know of weights.
	weighs bool
}

// term is what one peer is told.
type term struct {
	peer       string
	attributes *desired.Attributes // Weight is open
	weighs     bool
}

// An Offer is a prefix that a Service brings to some peers of a node. It is
// immutable.
type Offer struct {
	Prefix netip.Prefix
	// Weight is the number of endpoints on the node, 0 if nobody wants to know.
	Weight int
	terms  []term
}

// Equal tells whether both say the same.
func (o Offer) Equal(p Offer) bool {
	return o.Prefix == p.Prefix && o.Weight == p.Weight && o.Alike(p)
}

// Alike tells whether both say the same, the prefix and the weight aside.
func (o Offer) Alike(p Offer) bool {
	if len(o.terms) != len(p.terms) {
		return false
	}
	return len(o.terms) == 0 || &o.terms[0] == &p.terms[0] || slices.EqualFunc(o.terms, p.terms, func(a, b term) bool {
		return a.peer == b.peer && a.weighs == b.weighs && a.attributes.Equal(b.attributes)
	})
}

// Offers appends what Service k of the group brings to the peers of a node, a
// prefix at most once.
func (b *Ballot) Offers(to []Offer, k int, node string) []Offer {
	if !b.seats[k].bgp {
		return to
	}
	i, ok := b.cluster.index[node]
	if !ok {
		return to
	}
	if bar, _ := b.barredBGP(k, i); bar != "" {
		return to
	}
	s, first := b.group[k], len(to)
	all := b.cluster.termsOf(b.seats[k].chances, i, s.Service)
	for _, a := range s.Addresses {
		for _, t := range all {
			if t.family != familiesOf([]netip.Addr{a}) {
				continue
			}
			prefix, err := a.Prefix(t.bits)
			if err != nil || slices.ContainsFunc(to[first:], func(o Offer) bool { return o.Prefix == prefix }) {
				continue // the latter when two addresses of the Service are in one aggregate
			}
			o := Offer{Prefix: prefix, terms: t.to}
			if t.weighs && s.Local {
				// With policy Cluster every node spreads over all endpoints, so that
				// those of its own say nothing of its share.
				o.Weight = s.Endpoints.Nodes[node]
			}
			to = append(to, o)
		}
	}
	return to
}

// termsOf returns the terms of a Service on node i.
func (c *Cluster) termsOf(ch *chances, i int, s *service.Service) []terms {
	if asks(s.BGP) && slices.ContainsFunc(ch.ads[i], func(ad *config.BGPAdvertisement) bool { return ad.ServiceMay != 0 }) {
		return c.newTerms(ch, i, &s.BGP)
	}
	all, ok := ch.terms[i]
	if !ok {
		all = c.newTerms(ch, i, &service.BGP{})
		ch.terms[i] = all
	}
	return all
}

// asks tells whether a Service asks for attributes.
func asks(b service.BGP) bool {
	return len(b.Communities) > 0 || b.LocalPref != nil || b.MED != nil || b.Prepend != nil
}

// draft is a term that is being put together of several advertisements.
type draft struct {
	desired.Attributes
	weighs bool
	// own are the attributes that the Service set.
	own config.ServiceAttributes
}

func (c *Cluster) newTerms(ch *chances, i int, wants *service.BGP) (all []terms) {
	for _, f := range []families{ipv4, ipv6} {
		if ch.families&f == 0 {
			continue
		}
		byBits := map[int][]*config.BGPAdvertisement{}
		var order []int
		for _, ad := range ch.ads[i] {
			bits := ad.AggregationLength
			if f == ipv6 {
				bits = ad.AggregationLengthV6
			}
			if byBits[bits] == nil {
				order = append(order, bits)
			}
			byBits[bits] = append(byBits[bits], ad)
		}
		for _, bits := range order {
			if t := c.newTermsOfLength(i, f, byBits[bits], wants); len(t.to) > 0 {
				t.bits = bits
				all = append(all, t)
			}
		}
	}
	return all
}

// newTermsOfLength unites advertisements of one prefix length.
func (c *Cluster) newTermsOfLength(i int, f families, ads []*config.BGPAdvertisement, wants *service.BGP) terms {
	t := terms{family: f}
	for _, p := range c.bgp.peers[i] {
		if carried(p)&f == 0 {
			continue
		}
		var d *draft
		for _, ad := range ads {
			if addressed(ad, p) {
				d = d.unite(c.draft(ad, wants))
			}
		}
		if d == nil {
			continue
		}
		attributes := &d.Attributes
		for _, other := range t.to {
			if other.attributes.Equal(attributes) {
				attributes = other.attributes
				break
			}
		}
		t.to = append(t.to, term{peer: p.Name, attributes: attributes, weighs: d.weighs})
		t.weighs = t.weighs || d.weighs
	}
	return t
}

// draft is what one advertisement says of a Service that wants something.
func (c *Cluster) draft(ad *config.BGPAdvertisement, wants *service.BGP) draft {
	d := draft{weighs: ad.WeightByEndpoints}
	d.LocalPref, d.MED, d.Prepend, d.Communities = ad.LocalPref, ad.MED, ad.Prepend, ad.Communities
	if wants.LocalPref != nil && ad.ServiceMay.Has(config.ServiceLocalPref) {
		d.LocalPref, d.own = *wants.LocalPref, d.own|config.ServiceLocalPref
	}
	if wants.MED != nil && ad.ServiceMay.Has(config.ServiceMED) {
		d.MED, d.own = wants.MED, d.own|config.ServiceMED
	}
	if wants.Prepend != nil && ad.ServiceMay.Has(config.ServicePrepend) {
		d.Prepend, d.own = *wants.Prepend, d.own|config.ServicePrepend
	}
	if len(wants.Communities) > 0 && ad.ServiceMay.Has(config.ServiceCommunities) {
		var more []config.Community
		for _, text := range wants.Communities {
			if x, err := c.snap.Community(text); err == nil { // it is: see namesUnknown
				more = append(more, x)
			}
		}
		slices.SortFunc(more, config.Community.Compare)
		d.Communities = uniteCommunities(d.Communities, slices.Compact(more))
	}
	return d
}

// unite adds another advertisement to d, which may be nil. They contradict each
// other in nothing, or the Service would be refused; but one may allow the
// Service to set an attribute, and then the Service has its way.
func (d *draft) unite(o draft) *draft {
	if d == nil {
		return &o
	}
	own := o.own &^ d.own
	if own.Has(config.ServiceLocalPref) {
		d.LocalPref = o.LocalPref
	}
	if own.Has(config.ServiceMED) {
		d.MED = o.MED
	}
	if own.Has(config.ServicePrepend) {
		d.Prepend = o.Prepend
	}
	d.own |= o.own
	d.weighs = d.weighs || o.weighs
	d.Communities = uniteCommunities(d.Communities, o.Communities)
	return d
}

// uniteCommunities returns the union of two sorted lists; it changes neither.
func uniteCommunities(a, b []config.Community) []config.Community {
	switch {
	case len(b) == 0 || slices.Equal(a, b):
		return a
	case len(a) == 0:
		return b
	}
	both := slices.Concat(a, b)
	slices.SortFunc(both, config.Community.Compare)
	return slices.Compact(both)
}

// A Claim is an Offer and the Service that makes it; or the Offer of Services
// that offer the same, the oldest of them, and the sum of their weights.
type Claim struct {
	*service.Service
	Offer
}

// Told is what one peer is told of a prefix.
type Told struct {
	Peer       string
	Attributes *desired.Attributes
}

// Merge appends what each peer is told of the prefix that all claims are on, in
// the order of the peers' names. The oldest Service decides on what can have
// one value only, communities are united, and weights add up. The order of the
// claims has no meaning.
func Merge(to []Told, claims []Claim) []Told {
	if len(claims) == 1 {
		for _, t := range claims[0].terms {
			to = append(to, Told{t.peer, t.with(claims[0].Weight)})
		}
		return to
	}
	type sum struct {
		peer        string
		oldest      *service.Service
		attributes  *desired.Attributes
		communities []config.Community
		weight      int
	}
	var sums []sum
	for _, c := range claims {
		for _, t := range c.terms {
			i, found := slices.BinarySearchFunc(sums, t.peer, func(s sum, peer string) int { return cmp.Compare(s.peer, peer) })
			if !found {
				sums = slices.Insert(sums, i, sum{peer: t.peer, oldest: c.Service, attributes: t.attributes, communities: t.attributes.Communities})
			}
			s := &sums[i]
			if t.weighs {
				s.weight += c.Weight
			}
			if s.attributes == t.attributes {
				if older(c.Service, s.oldest) < 0 {
					s.oldest = c.Service
				}
				continue
			}
			s.communities = uniteCommunities(s.communities, t.attributes.Communities)
			if older(c.Service, s.oldest) < 0 {
				s.oldest, s.attributes = c.Service, t.attributes
			}
		}
	}
	for _, s := range sums {
		a := s.attributes
		if s.weight != 0 || !slices.Equal(a.Communities, s.communities) {
			a = &desired.Attributes{LocalPref: a.LocalPref, MED: a.MED, Prepend: a.Prepend, Communities: s.communities, Weight: s.weight}
		}
		to = append(to, Told{s.peer, a})
	}
	return to
}

// with returns the attributes with a weight.
func (t term) with(weight int) *desired.Attributes {
	if !t.weighs || weight == 0 {
		return t.attributes
	}
	a := *t.attributes
	a.Weight = weight
	return &a
}
