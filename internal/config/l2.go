package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api/v1beta1"
)

// l2Advertisements compiles the L2Advertisements in name order and attaches
// them to the pools that they select.
func (c *compiler) l2Advertisements(pools []*Pool) []*L2Advertisement {
	objects := byAge(c.objects.L2Advertisements)
	slices.SortStableFunc(objects, func(a, b *v1beta1.L2Advertisement) int { return strings.Compare(a.Name, b.Name) })
	var out []*L2Advertisement
	for _, o := range objects {
		r := c.about("L2Advertisement", o)
		ad := &L2Advertisement{Name: o.Name, Interfaces: r.names("spec.interfaces", o.Spec.Interfaces)}
		ad.NodeSelectors, _ = r.selectors("spec.nodeSelectors", o.Spec.NodeSelectors)
		ad.ServiceSelectors, _ = r.selectors("spec.serviceSelectors", o.Spec.ServiceSelectors)
		ad.Preferences = r.preferences(o.Spec.PreferredNodeSelectors)
		for _, p := range r.selectPools(pools, o.Spec.IPAddressPools, o.Spec.IPAddressPoolSelectors) {
			p.L2 = append(p.L2, ad)
		}
		out = append(out, ad)
	}
	return out
}

func (r report) preferences(list []v1beta1.PreferredNodeSelector) []Preference {
	var out []Preference
	for i := range list {
		field := fmt.Sprintf("spec.preferredNodeSelectors[%d]", i)
		if w := list[i].Weight; w < 1 || w > 100 {
			r.errorf(field+".weight", "invalid weight %d: expected a number from 1 to 100", w)
			continue
		}
		sel, ok := r.selector(field+".preference", &list[i].Preference)
		if !ok {
			continue
		}
		out = append(out, Preference{Weight: list[i].Weight, Nodes: sel})
	}
	return out
}

// selectPools returns the pools, in name order and each once, that an
// advertisement selects by name or by label; all of them when it has neither.
func (r report) selectPools(pools []*Pool, names []string, selectors []v1beta1.LabelSelector) []*Pool {
	wanted := r.names("spec.ipAddressPools", names)
	sels, _ := r.selectors("spec.ipAddressPoolSelectors", selectors)
	if len(wanted) == 0 && len(sels) == 0 {
		return pools
	}
	var out []*Pool
	found := make(map[string]struct{}, len(wanted))
	for _, p := range pools {
		_, named := slices.BinarySearch(wanted, p.Name)
		if named {
			found[p.Name] = struct{}{}
		}
		if named || (len(sels) > 0 && Matches(sels, p.Labels)) {
			out = append(out, p)
		}
	}
	for i, name := range names {
		if _, ok := found[name]; !ok {
			r.warnf(fmt.Sprintf("spec.ipAddressPools[%d]", i), "there is no IPAddressPool %q: expected the name of an existing pool", name)
		}
	}
	return out
}
