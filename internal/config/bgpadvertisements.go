package config

import (
	"errors"
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
	ok = r.pathAttributes(ad, &o.Spec) && ok
	if !ok {
		return nil
	}
	return ad
}

// maxPrepend keeps an AS path far from the lengths that routers refuse.
const maxPrepend = 10

// pathAttributes fills what MetalLB's advertisements do not have. It returns
// false when one of them makes no sense.
func (r report) pathAttributes(ad *BGPAdvertisement, spec *v1beta1.BGPAdvertisementSpec) bool {
	ok := true
	if n := spec.ASPathPrepend; n < 0 || n > maxPrepend {
		r.errorf("spec.asPathPrepend", "invalid asPathPrepend %d: expected a number from 0 to %d", n, maxPrepend)
		ok = false
	} else {
		ad.Prepend = uint8(n)
	}
	if spec.MED != nil {
		med := *spec.MED
		ad.MED = &med
	}
	ad.WeightByEndpoints = spec.WeightByEndpoints
	attributes := map[v1beta1.ServiceAttribute]ServiceAttributes{
		v1beta1.CommunitiesAttribute: ServiceCommunities, v1beta1.LocalPrefAttribute: ServiceLocalPref,
		v1beta1.MEDAttribute: ServiceMED, v1beta1.ASPathPrependAttribute: ServicePrepend,
	}
	for i, name := range spec.ServiceAttributes {
		field := fmt.Sprintf("spec.serviceAttributes[%d]", i)
		attribute, known := attributes[name]
		switch {
		case !known:
			// Services may then set less than was meant, which is the safe side.
			r.errorf(field, "unknown attribute %q: expected communities, localPref, med or asPathPrepend", string(name))
		case ad.ServiceMay.Has(attribute):
			r.warnf(field, "duplicate value %q: expected each value once", string(name))
		}
		ad.ServiceMay |= attribute
	}
	return ok
}

// maxOctets is what the communities of an advertisement may take of a message,
// which has 4096 octets (RFC 4271, section 4.1). It leaves room for those that
// a Service adds, and for everything else.
const maxOctets = 3072

// octets is how much room the communities take in a message.
func octets(list []Community) int {
	size := map[CommunityKind]int{StandardCommunity: 4, LargeCommunity: 12, ExtendedCommunity: 8}
	n := 0
	for _, c := range list {
		n += size[c.Kind]
	}
	return n
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
		value, err := resolveCommunity(names, string(ref))
		var unknown *UnknownCommunityError
		switch {
		case err == nil:
			ad.Communities = append(ad.Communities, value)
		case errors.As(err, &unknown):
			r.errorf(field, "%v; nothing is announced through this object until it exists", err)
			ad.UnknownCommunities = append(ad.UnknownCommunities, unknown.Name)
		default:
			r.errorf(field, "%v", err)
			ok = false
		}
	}
	slices.SortFunc(ad.Communities, Community.Compare)
	ad.Communities = slices.Compact(ad.Communities)
	if n := octets(ad.Communities); n > maxOctets {
		r.errorf("spec.communities", "the communities take %d octets of a BGP message: expected at most %d (%d standard, or %d large ones)",
			n, maxOctets, maxOctets/4, maxOctets/12)
		ok = false
	}
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
