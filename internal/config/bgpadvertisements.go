package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api/v1beta1"
)

// placedAd is an advertisement and the nodes that announce it.
type placedAd struct {
	*BGPAdvertisement
	nodes nodeSet
}

// bgpAdvertisements compiles the BGPAdvertisements in name order and attaches
// them to the pools that they select, where they contradict neither the pool
// nor an older advertisement.
func (c *compiler) bgpAdvertisements(pools []*Pool, names map[string]Community) []*BGPAdvertisement {
	var out []*BGPAdvertisement
	attached := make(map[*Pool][]placedAd, len(pools))
	for _, o := range byAge(c.objects.BGPAdvertisements) {
		r := c.about("BGPAdvertisement", o)
		selected := r.selectPools(pools, o.Spec.IPAddressPools, o.Spec.IPAddressPoolSelectors)
		ad := r.bgpAdvertisement(o, names)
		if ad == nil {
			continue
		}
		out = append(out, ad)
		placed := placedAd{BGPAdvertisement: ad, nodes: c.nodeSet(ad.NodeSelectors)}
		for _, p := range selected {
			if r.aggregates(ad, p) && !r.contradicts(placed, p, attached[p]) {
				attached[p] = append(attached[p], placed)
			}
		}
	}
	byName := func(a, b *BGPAdvertisement) int { return strings.Compare(a.Name, b.Name) }
	for _, p := range pools {
		for _, ad := range attached[p] {
			p.BGP = append(p.BGP, ad.BGPAdvertisement)
		}
		slices.SortStableFunc(p.BGP, byName)
	}
	slices.SortStableFunc(out, byName)
	return out
}

// bgpAdvertisement compiles one object by itself; nil if it cannot be used.
func (r report) bgpAdvertisement(o *v1beta1.BGPAdvertisement, names map[string]Community) *BGPAdvertisement {
	ad := &BGPAdvertisement{
		Name:                o.Name,
		AggregationLength:   32,
		AggregationLengthV6: 128,
		LocalPref:           o.Spec.LocalPref,
		Peers:               r.names("spec.peers", o.Spec.Peers),
	}
	ok := true
	if n := o.Spec.AggregationLength; n != nil {
		if *n < 1 || *n > 32 {
			r.errorf("spec.aggregationLength", "invalid aggregation length %d: expected a number from 1 to 32", *n)
			ok = false
		}
		ad.AggregationLength = int(*n)
	}
	if n := o.Spec.AggregationLengthV6; n != nil {
		if *n < 0 || *n > 128 {
			r.errorf("spec.aggregationLengthV6", "invalid aggregation length %d: expected a number from 0 to 128", *n)
			ok = false
		}
		ad.AggregationLengthV6 = int(*n)
	}
	ad.NodeSelectors, _ = r.selectors("spec.nodeSelectors", o.Spec.NodeSelectors)
	ad.ServiceSelectors, _ = r.selectors("spec.serviceSelectors", o.Spec.ServiceSelectors)
	if len(ad.ServiceSelectors) > 0 && (ad.AggregationLength != 32 || ad.AggregationLengthV6 != 128) {
		r.errorf("spec.serviceSelectors", "serviceSelectors and aggregation are mutually exclusive: expected aggregationLength 32 and aggregationLengthV6 128 beside serviceSelectors")
		ok = false
	}
	ok = r.resolveCommunities(ad, o.Spec.Communities, names) && ok
	if !ok {
		return nil
	}
	return ad
}

// resolveCommunities fills the communities of ad. It returns false when one of
// them can never mean anything.
func (r report) resolveCommunities(ad *BGPAdvertisement, refs []v1beta1.CommunityRef, names map[string]Community) bool {
	ok := true
	seen := map[v1beta1.CommunityRef]bool{}
	for i, ref := range refs {
		field := fmt.Sprintf("spec.communities[%d]", i)
		if seen[ref] {
			r.warnf(field, "duplicate value %q: expected each value once", string(ref))
			continue
		}
		seen[ref] = true
		// A name wins over a literal of the same spelling.
		if value, known := names[string(ref)]; known {
			ad.Communities = append(ad.Communities, value)
			continue
		}
		value, err := parseCommunity(string(ref))
		switch {
		case err == nil:
			ad.Communities = append(ad.Communities, value)
		case strings.Contains(string(ref), ":"):
			r.errorf(field, "%v, or the name of a Community", err)
			ok = false
		default:
			r.errorf(field, "unknown community %q: expected a name that a Community object defines, or a literal such as 64512:100; nothing new is announced until it exists", string(ref))
			ad.UnknownCommunities = append(ad.UnknownCommunities, string(ref))
		}
	}
	slices.SortFunc(ad.Communities, Community.Compare)
	ad.Communities = slices.Compact(ad.Communities)
	slices.Sort(ad.UnknownCommunities)
	return ok
}

// aggregates is true when ad announces prefixes of p that are not wider than
// what p holds.
func (r report) aggregates(ad *BGPAdvertisement, p *Pool) bool {
	ok := true
	for _, f := range []struct {
		family family
		length int
		field  string
	}{
		{ipv4, ad.AggregationLength, "spec.aggregationLength"},
		{ipv6, ad.AggregationLengthV6, "spec.aggregationLengthV6"},
	} {
		if shortest, has := p.shortest[f.family]; has && f.length < shortest {
			r.errorf(f.field, "invalid aggregation length %d for pool %q, whose narrowest entry is a /%d: expected at least %d; the pool is not announced through this object",
				f.length, p.Name, shortest, shortest)
			ok = false
		}
	}
	return ok
}

// contradicts is true when an older advertisement of p announces the same
// prefixes to the same peers from the same nodes with another LOCAL_PREF.
// Advertisements with service selectors are compared for each Service, later.
func (r report) contradicts(ad placedAd, p *Pool, older []placedAd) bool {
	if len(ad.ServiceSelectors) > 0 {
		return false
	}
	for _, o := range older {
		if len(o.ServiceSelectors) > 0 || !clash(ad, o, p) {
			continue
		}
		r.errorf("spec.localPref", "invalid localPref %d on pool %q: BGPAdvertisement %q, which is older, announces the same prefixes with localPref %d: expected the same localPref, other prefix lengths, other peers or other nodes; the pool is not announced through this object",
			ad.LocalPref, p.Name, o.Name, o.LocalPref)
		return true
	}
	return false
}

// clash is true when two advertisements may announce one prefix of p to one
// peer from one node, with different LOCAL_PREFs.
func clash(a, b placedAd, p *Pool) bool {
	switch {
	case a.LocalPref == b.LocalPref:
		return false
	case (!p.has(ipv4) || a.AggregationLength != b.AggregationLength) &&
		(!p.has(ipv6) || a.AggregationLengthV6 != b.AggregationLengthV6):
		return false
	case len(a.Peers) > 0 && len(b.Peers) > 0 && disjoint(a.Peers, b.Peers):
		return false
	}
	return a.nodes.mayMeet(b.nodes)
}

// disjoint is true when two sorted lists have nothing in common.
func disjoint(a, b []string) bool {
	for len(a) > 0 && len(b) > 0 {
		switch cmp.Compare(a[0], b[0]) {
		case 0:
			return false
		case -1:
			a = a[1:]
		default:
			b = b[1:]
		}
	}
	return true
}
