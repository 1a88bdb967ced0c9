package config

import (
	"cmp"
	"strconv"
)

// Conflicts tells whether two advertisements may want one prefix to look in two
// ways to one peer, and in which field. It is about a pool or a Service with
// addresses of the families v4 and v6, which both advertisements select, on a
// node that both select.
//
// Communities never conflict: their union is attached. Nor does
// weightByEndpoints: if one of them weighs, the prefix is weighed.
func Conflicts(a, b *BGPAdvertisement, v4, v6 bool) (field string, yes bool) {
	samePrefixes := v4 && a.AggregationLength == b.AggregationLength || v6 && a.AggregationLengthV6 == b.AggregationLengthV6
	samePeers := len(a.Peers) == 0 || len(b.Peers) == 0 || !disjoint(a.Peers, b.Peers)
	if !samePrefixes || !samePeers {
		return "", false
	}
	switch {
	case a.LocalPref != b.LocalPref:
		return "localPref", true
	case medText(a.MED) != medText(b.MED):
		return "med", true
	case a.Prepend != b.Prepend:
		return "asPathPrepend", true
	}
	return "", false
}

// contradicts is true when an older advertisement of p announces the same
// prefixes to the same peers from the same nodes with other attributes.
// Advertisements with service selectors are compared for each Service, later.
func (r report) contradicts(ad placedAd, p *Pool, older []placedAd) bool {
	if len(ad.ServiceSelectors) > 0 {
		return false
	}
	for _, o := range older {
		if len(o.ServiceSelectors) > 0 || !ad.nodes.mayMeet(o.nodes) {
			continue
		}
		field, conflict := Conflicts(ad.BGPAdvertisement, o.BGPAdvertisement, p.has(ipv4), p.has(ipv6))
		if !conflict {
			continue
		}
		r.errorf("spec."+field, "invalid %s %s on pool %q: BGPAdvertisement %q, which is older, announces the same prefixes with %s %s: expected the same %s, other prefix lengths, other peers or other nodes; the pool is not announced through this object",
			field, ad.text(field), p.Name, o.Name, field, o.text(field), field)
		return true
	}
	return false
}

// text writes the value of a field that Conflicts named.
func (ad *BGPAdvertisement) text(field string) string {
	switch field {
	case "med":
		return medText(ad.MED)
	case "asPathPrepend":
		return strconv.Itoa(int(ad.Prepend))
	}
	return strconv.FormatUint(uint64(ad.LocalPref), 10)
}

func medText(med *uint32) string {
	if med == nil {
		return "none"
	}
	return strconv.FormatUint(uint64(*med), 10)
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
