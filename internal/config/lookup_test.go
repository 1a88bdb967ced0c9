package config_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
)

// poolYAML is one pool with the given lines in its spec.
func poolYAML(name, spec string) string {
	return fmt.Sprintf("---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %s}\nspec: %s\n", name, spec)
}

// compile compiles YAML and fails the test on any error in it.
func compile(t testing.TB, text string) *config.Snapshot {
	t.Helper()
	s, problems := config.Compile(configtest.Objects(t, text))
	for _, p := range problems {
		if p.Severity == config.Error {
			t.Fatalf("unexpected problem: %v", p)
		}
	}
	return s
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func TestPoolOf(t *testing.T) {
	objects := configtest.Objects(t, poolYAML("dual", `{addresses: [10.0.0.0/24, 2001:db8::/64]}`)+
		poolYAML("other", `{addresses: [10.0.1.10-10.0.1.20], avoidBuggyIPs: true}`)+
		poolYAML("broken", `{addresses: [10.0.2.0/24, nonsense]}`))
	s, problems := config.Compile(objects)
	if len(problems) != 1 {
		t.Fatalf("problems: %v", problems)
	}
	for _, tc := range []struct {
		name, hint, want string
		addrs            []netip.Addr
	}{
		{"both families of one pool", "", "dual", addrs("10.0.0.7", "2001:db8::7")},
		{"the hint does not matter when a pool holds all", "other", "dual", addrs("10.0.0.7")},
		{"first and last address count", "", "dual", addrs("10.0.0.0", "2001:db8::ffff:ffff:ffff:ffff")},
		{"inside a range", "", "other", addrs("10.0.1.20")},
		{"just outside a range", "other", "", addrs("10.0.1.21")},
		{"addresses of two pools", "", "", addrs("10.0.0.7", "10.0.1.10")},
		{"one address of nobody", "dual", "", addrs("10.0.0.7", "2001:db9::1")},
		{"no address", "dual", "", nil},
		{"below every pool", "", "", addrs("0.0.0.1")},
		{"above every pool", "", "", addrs("ffff::1")},
		{"an incomplete pool keeps what it is said to hold", "broken", "broken", addrs("10.9.9.9")},
		{"not without the annotation", "", "", addrs("10.9.9.9")},
		{"and of a pair of which another pool holds one", "broken", "broken", addrs("10.9.9.9", "10.0.0.7")},
		{"and what it lost to an older pool", "broken", "broken", addrs("10.0.0.7")},
		{"an incomplete pool keeps the rest of a pair", "broken", "broken", addrs("10.0.2.1", "2001:db9::1")},
		{"a pool that does not exist holds nothing", "gone", "", addrs("10.9.9.9")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if p := s.PoolOf(tc.addrs, tc.hint); p != nil {
				got = p.Name
			}
			if got != tc.want {
				t.Errorf("PoolOf(%v, %q) = %q, want %q", tc.addrs, tc.hint, got, tc.want)
			}
		})
	}
	if s.Pool("dual") == nil || s.Pool("gone") != nil {
		t.Error("Pool does not find by name")
	}
}

func TestCapacityCountsUsableAddresses(t *testing.T) {
	for _, tc := range []struct {
		name, spec string
		v4, v6     int64
	}{
		{"network and broadcast addresses count", `{addresses: [10.0.0.0/24]}`, 256, 0},
		{"avoidBuggyIPs takes two of every /24", `{addresses: [10.0.0.0/22], avoidBuggyIPs: true}`, 1016, 0},
		{"avoidBuggyIPs takes one of a half", `{addresses: [10.0.0.0/25], avoidBuggyIPs: true}`, 127, 0},
		{"avoidBuggyIPs takes nothing in the middle", `{addresses: [10.0.0.64/26], avoidBuggyIPs: true}`, 64, 0},
		{"a single .0 is nothing, not less", `{addresses: [10.0.0.0/32], avoidBuggyIPs: true}`, 0, 0},
		{"a single .255 is nothing, not less", `{addresses: [10.0.0.255/32], avoidBuggyIPs: true}`, 0, 0},
		{"avoidBuggyIPs does not concern IPv6", `{addresses: ["2001:db8::/120"], avoidBuggyIPs: true}`, 0, 256},
		{"a huge pool never runs out", `{addresses: ["2001:db8::/32"]}`, 0, math.MaxInt64},
		{"a huge pool beside IPv4 does not overflow", `{addresses: ["2001:db8::/64", "2001:db9::1-2001:db9::3", 10.0.0.0/31]}`, 2, math.MaxInt64},
		{"two large ones do not overflow", `{addresses: ["2001:db8::/66", "2001:db9::/66"]}`, 0, math.MaxInt64},
		{"all of IPv4", `{addresses: [0.0.0.0/0]}`, 1 << 32, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := compile(t, poolYAML("p", tc.spec)).Pool("p")
			v4, v6 := p.Capacity()
			want := [2]int64{tc.v4, tc.v6}
			if got := [2]int64{v4, v6}; got != want {
				t.Errorf("Capacity() = %v, want %v", got, want)
			}
		})
	}
}

func TestUsableHonoursAvoidBuggyIPs(t *testing.T) {
	p := compile(t, poolYAML("p", `{addresses: [10.0.0.0/23, "2001:db8::/120"], avoidBuggyIPs: true}`)).Pool("p")
	for text, want := range map[string]bool{
		"10.0.0.0": false, "10.0.0.1": true, "10.0.0.255": false, "10.0.1.0": false,
		"10.0.2.1": false, "2001:db8::": true, "2001:db8::ff": true,
	} {
		if got := p.Usable(netip.MustParseAddr(text)); got != want {
			t.Errorf("Usable(%s) = %t, want %t", text, got, want)
		}
	}
	if !p.Contains(netip.MustParseAddr("10.0.0.255")) {
		t.Error("Contains must not depend on avoidBuggyIPs")
	}
}

func TestAdmits(t *testing.T) {
	teamA, teamB := labels.Set{"team": "a"}, labels.Set{"team": "b"}
	for _, tc := range []struct {
		name, allocation string
		namespace        string
		nsLabels, labels labels.Set
		want             bool
	}{
		{"an unpinned pool admits everybody", ``, "x", nil, nil, true},
		{"an empty allocation admits everybody", `{}`, "x", nil, nil, true},
		{"a priority alone admits everybody", `{priority: 5}`, "x", nil, nil, true},
		{"a namespace by name", `{namespaces: [x]}`, "x", nil, nil, true},
		{"another namespace", `{namespaces: [y]}`, "x", nil, nil, false},
		{"a namespace by label", `{namespaces: [y], namespaceSelectors: [{matchLabels: {team: a}}]}`, "x", teamA, nil, true},
		{"namespace selectors that match nothing admit nobody", `{namespaceSelectors: [{matchLabels: {team: a}}]}`, "x", teamB, nil, false},
		{"any of several selectors", `{namespaceSelectors: [{matchLabels: {team: a}}, {matchLabels: {team: b}}]}`, "x", teamB, nil, true},
		{"a Service by label", `{serviceSelectors: [{matchExpressions: [{key: team, operator: Exists}]}]}`, "x", nil, teamA, true},
		{"a Service without the label", `{serviceSelectors: [{matchExpressions: [{key: team, operator: Exists}]}]}`, "x", teamA, nil, false},
		{"namespace and Service must both fit", `{namespaces: [x], serviceSelectors: [{matchLabels: {team: a}}]}`, "x", nil, teamB, false},
		{"namespace and Service both fit", `{namespaces: [x], serviceSelectors: [{matchLabels: {team: a}}]}`, "x", nil, teamA, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			spec := `{addresses: [10.0.0.0/24]}`
			if tc.allocation != "" {
				spec = `{addresses: [10.0.0.0/24], serviceAllocation: ` + tc.allocation + `}`
			}
			p := compile(t, poolYAML("p", spec)).Pool("p")
			if got := p.Admits(tc.namespace, tc.nsLabels, tc.labels); got != tc.want {
				t.Errorf("Admits = %t, want %t", got, tc.want)
			}
		})
	}
}

// A pin whose selectors cannot be read admits nobody new, and says that it is
// not the whole truth.
func TestBrokenPinAdmitsNobody(t *testing.T) {
	s, problems := config.Compile(configtest.Objects(t, poolYAML("p",
		`{addresses: [10.0.0.0/24], serviceAllocation: {namespaceSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}}`)))
	p := s.Pool("p")
	if len(problems) != 1 || p.Admits("x", nil, nil) || !p.Pin.Incomplete {
		t.Errorf("problems %v, admits %t, incomplete %t", problems, p.Admits("x", nil, nil), p.Pin.Incomplete)
	}
}

func TestSummarize(t *testing.T) {
	for _, tc := range []struct {
		name, from, to string
		want           []string
	}{
		{"one address", "10.0.0.7", "10.0.0.7", []string{"10.0.0.7/32"}},
		{"a whole prefix", "10.0.0.0", "10.0.0.255", []string{"10.0.0.0/24"}},
		{"ragged ends", "10.0.0.1", "10.0.0.6", []string{"10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"}},
		{"across a /24", "10.0.0.254", "10.0.1.1", []string{"10.0.0.254/31", "10.0.1.0/31"}},
		{"all of IPv4", "0.0.0.0", "255.255.255.255", []string{"0.0.0.0/0"}},
		{"all of IPv6", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", []string{"::/0"}},
		{"IPv6", "2001:db8::1", "2001:db8::4", []string{"2001:db8::1/128", "2001:db8::2/127", "2001:db8::4/128"}},
		{"the wrong way round", "10.0.0.2", "10.0.0.1", nil},
		{"two families", "10.0.0.1", "2001:db8::1", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			for _, p := range config.Summarize(netip.MustParseAddr(tc.from), netip.MustParseAddr(tc.to)) {
				got = append(got, p.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The prefixes of a range follow one another without gap or overlap, from its
// first to its last address, and no two neighbours make one prefix.
func TestSummarizeIsExactAndMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		from, to := drawAddr(t), drawAddr(t)
		if to.Less(from) {
			from, to = to, from
		}
		prefixes := config.Summarize(from, to)
		if from.BitLen() != to.BitLen() {
			if prefixes != nil {
				t.Fatalf("two families gave %v", prefixes)
			}
			return
		}
		next := from
		for i, p := range prefixes {
			if p.Addr() != next || p != p.Masked() {
				t.Fatalf("%v: prefix %d does not start at %s", prefixes, i, next)
			}
			if i > 0 && prefixes[i-1].Bits() == p.Bits() {
				if parent, _ := p.Addr().Prefix(p.Bits() - 1); parent.Addr() == prefixes[i-1].Addr() {
					t.Fatalf("%v: prefixes %d and %d are one", prefixes, i-1, i)
				}
			}
			next = config.Last(p).Next()
		}
		if end := to.Next(); next != end {
			t.Fatalf("%v: ends before %s, not after %s", prefixes, next, to)
		}
	})
}

func drawAddr(t *rapid.T) netip.Addr {
	b := rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")
	if rapid.Bool().Draw(t, "ipv4") {
		return netip.AddrFrom4([4]byte(b))
	}
	a := [16]byte{0x20, 0x01}
	copy(a[12:], b)
	return netip.AddrFrom16(a)
}

// PoolOf agrees with asking every prefix of every pool.
func TestPoolOfAgreesWithLinearSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var objects config.Objects
		for i := range rapid.IntRange(0, 6).Draw(t, "pools") {
			var pool v1beta1.IPAddressPool
			pool.Name = fmt.Sprintf("p%d", i)
			for range rapid.IntRange(1, 4).Draw(t, "entries") {
				pool.Spec.Addresses = append(pool.Spec.Addresses, drawEntry(t))
			}
			objects.Pools = append(objects.Pools, pool)
		}
		s, _ := config.Compile(objects)
		a := netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 3).Draw(t, "c")), rapid.Byte().Draw(t, "d")})
		var want *config.Pool
		for _, p := range s.Pools {
			for _, prefix := range p.Prefixes {
				if prefix.Contains(a) {
					if want != nil {
						t.Fatalf("%s is in two prefixes", a)
					}
					want = p
				}
			}
			if p.Contains(a) != (want == p) {
				t.Fatalf("pool %s: Contains(%s) = %t", p.Name, a, p.Contains(a))
			}
		}
		if got := s.PoolOf([]netip.Addr{a}, ""); got != want {
			t.Fatalf("PoolOf(%s) = %v, want %v", a, got, want)
		}
	})
}

// drawEntry draws sound and overlapping entries within 10.0.0.0/22, and some
// that are wrong.
func drawEntry(t *rapid.T) v1beta1.AddressRange {
	a := func(label string) string {
		return fmt.Sprintf("10.0.%d.%d", rapid.IntRange(0, 3).Draw(t, label), rapid.IntRange(0, 255).Draw(t, label))
	}
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0, 1:
		return v1beta1.AddressRange(fmt.Sprintf("%s/%d", a("cidr"), rapid.IntRange(24, 32).Draw(t, "bits")))
	case 2, 3:
		return v1beta1.AddressRange(a("from") + "-" + a("to"))
	default:
		return v1beta1.AddressRange(rapid.SampledFrom([]string{"", "-", "10.0.0.0/33", "10.0.0.1-2001:db8::1", "x"}).Draw(t, "bad"))
	}
}

func BenchmarkPoolOf(b *testing.B) {
	var objects config.Objects
	for i := range 5000 {
		var pool v1beta1.IPAddressPool
		pool.Name = fmt.Sprintf("p%d", i)
		base := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		pool.Spec.Addresses = []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("%s-%s", base.Next(), netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 254})))}
		objects.Pools = append(objects.Pools, pool)
	}
	s, _ := config.Compile(objects)
	want := addrs("10.9.200.77")
	b.ReportAllocs()
	for b.Loop() {
		if s.PoolOf(want, "") == nil {
			b.Fatal("not found")
		}
	}
}

// A cluster with a peer and an advertisement for every rack of a thousand.
func BenchmarkCompile1000Racks(b *testing.B) {
	var o config.Objects
	for i := range 1000 {
		rack := []v1beta1.LabelSelector{{MatchLabels: map[string]string{"rack": fmt.Sprint(i)}}}
		name := metav1.ObjectMeta{Name: fmt.Sprintf("r%d", i)}
		o.Nodes = append(o.Nodes, config.Node{Name: name.Name, Labels: rack[0].MatchLabels})
		o.Pools = append(o.Pools, v1beta1.IPAddressPool{ObjectMeta: name, Spec: v1beta1.IPAddressPoolSpec{
			Addresses: []v1beta1.AddressRange{v1beta1.AddressRange(fmt.Sprintf("10.%d.%d.1-10.%d.%d.250", i>>8, i&255, i>>8, i&255))}}})
		o.L2Advertisements = append(o.L2Advertisements, v1beta1.L2Advertisement{ObjectMeta: name, Spec: v1beta1.L2AdvertisementSpec{
			IPAddressPools: []string{name.Name}, NodeSelectors: rack}})
		o.BGPAdvertisements = append(o.BGPAdvertisements, v1beta1.BGPAdvertisement{ObjectMeta: name, Spec: v1beta1.BGPAdvertisementSpec{
			IPAddressPools: []string{name.Name}, NodeSelectors: rack, LocalPref: uint32(i)}})
		o.Peers = append(o.Peers, v1beta2.BGPPeer{ObjectMeta: name, Spec: v1beta2.BGPPeerSpec{
			MyASN: 64512, ASN: 64600, Address: "192.168.1.1", NodeSelectors: rack}})
	}
	for b.Loop() {
		if _, problems := config.Compile(o); len(problems) > 0 {
			b.Fatal(problems[0])
		}
	}
}
