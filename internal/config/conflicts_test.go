package config_test

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
)

func TestConflicts(t *testing.T) {
	ad := func(change func(*config.BGPAdvertisement)) *config.BGPAdvertisement {
		a := &config.BGPAdvertisement{AggregationLength: 32, AggregationLengthV6: 128, LocalPref: 100, MED: new(uint32(1)), Prepend: 1}
		change(a)
		return a
	}
	plain := ad(func(*config.BGPAdvertisement) {})
	for _, tc := range []struct {
		name   string
		change func(*config.BGPAdvertisement)
		v4, v6 bool
		want   string
	}{
		{"the same", func(*config.BGPAdvertisement) {}, true, true, ""},
		{"another localPref", func(a *config.BGPAdvertisement) { a.LocalPref = 0 }, true, false, "localPref"},
		{"another MED", func(a *config.BGPAdvertisement) { a.MED = new(uint32(2)) }, true, false, "med"},
		{"an equal MED", func(a *config.BGPAdvertisement) { a.MED = new(uint32(1)) }, true, true, ""},
		{"no MED", func(a *config.BGPAdvertisement) { a.MED = nil }, false, true, "med"},
		{"another path", func(a *config.BGPAdvertisement) { a.Prepend = 0 }, true, true, "asPathPrepend"},
		{"communities add up", func(a *config.BGPAdvertisement) { a.Communities = []config.Community{{}} }, true, true, ""},
		{"weights add up", func(a *config.BGPAdvertisement) { a.WeightByEndpoints = true }, true, true, ""},
		{"other lengths in the family of the addresses", func(a *config.BGPAdvertisement) { a.LocalPref, a.AggregationLength = 0, 24 }, true, false, ""},
		{"other lengths in one of two families", func(a *config.BGPAdvertisement) { a.LocalPref, a.AggregationLength = 0, 24 }, true, true, "localPref"},
		{"no address at all", func(a *config.BGPAdvertisement) { a.LocalPref = 0 }, false, false, ""},
		{"one peer against all", func(a *config.BGPAdvertisement) { a.LocalPref, a.Peers = 0, []string{"a"} }, true, true, "localPref"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := ad(tc.change)
			for _, pair := range [][2]*config.BGPAdvertisement{{a, plain}, {plain, a}} {
				if got, yes := config.Conflicts(pair[0], pair[1], tc.v4, tc.v6); got != tc.want || yes != (tc.want != "") {
					t.Errorf("Conflicts = %q, %t, want %q", got, yes, tc.want)
				}
			}
		})
	}
	a := ad(func(a *config.BGPAdvertisement) { a.LocalPref, a.Peers = 0, []string{"a", "c"} })
	b := ad(func(a *config.BGPAdvertisement) { a.Peers = []string{"b", "d"} })
	if _, yes := config.Conflicts(a, b, true, true); yes {
		t.Error("advertisements to different peers conflict")
	}
}

// Compile leaves an advertisement out of a pool exactly when it conflicts with
// an older one that is in it.
func TestCompileAgreesWithConflicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var o config.Objects
		o.Pools = []v1beta1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "p"}}}
		v4, v6 := rapid.Bool().Draw(t, "v4"), rapid.Bool().Draw(t, "v6")
		if v4 {
			o.Pools[0].Spec.Addresses = append(o.Pools[0].Spec.Addresses, "10.0.0.0/24")
		}
		if v6 {
			o.Pools[0].Spec.Addresses = append(o.Pools[0].Spec.Addresses, "2001:db8::/64")
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "ads") {
			ad := v1beta1.BGPAdvertisement{ObjectMeta: drawMeta(t, "ad", i)}
			drawAttributes(t, &ad.Spec)
			ad.Spec.Peers = drawNames(t, "peer")
			ad.Spec.AggregationLengthV6 = new(rapid.SampledFrom([]int32{64, 128}).Draw(t, "lengthV6"))
			o.BGPAdvertisements = append(o.BGPAdvertisements, ad)
		}
		s, _ := config.Compile(o)
		byAge := slices.Clone(o.BGPAdvertisements)
		slices.SortFunc(byAge, func(a, b v1beta1.BGPAdvertisement) int {
			if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
				return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
			}
			return strings.Compare(a.Name, b.Name)
		})
		var in []string
		for _, ad := range byAge {
			object := find(s, ad.Name)
			if !slices.ContainsFunc(in, func(older string) bool {
				_, yes := config.Conflicts(object, find(s, older), v4, v6)
				return yes
			}) {
				in = append(in, ad.Name)
			}
		}
		slices.Sort(in)
		var got []string
		for _, ad := range s.Pool("p").BGP {
			got = append(got, ad.Name)
		}
		if !slices.Equal(in, got) {
			t.Fatalf("the pool has %v, want %v", got, in)
		}
	})
}

func find(s *config.Snapshot, name string) *config.BGPAdvertisement {
	i := slices.IndexFunc(s.BGPAdvertisements, func(a *config.BGPAdvertisement) bool { return a.Name == name })
	return s.BGPAdvertisements[i]
}

// drawAttributes draws what a prefix looks like, from few values.
func drawAttributes(t *rapid.T, spec *v1beta1.BGPAdvertisementSpec) {
	spec.LocalPref = rapid.Uint32Range(0, 2).Draw(t, "localPref")
	spec.MED = rapid.SampledFrom([]*uint32{nil, new(uint32(0)), new(uint32(1))}).Draw(t, "med")
	spec.ASPathPrepend = rapid.Int32Range(0, 1).Draw(t, "prepend")
	spec.WeightByEndpoints = rapid.Bool().Draw(t, "weight")
}
