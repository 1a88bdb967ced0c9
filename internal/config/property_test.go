package config_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/config"
)

// drawObjects draws a configuration from small sets of names, labels and
// addresses, so that objects meet and contradict each other often.
func drawObjects(t *rapid.T) config.Objects {
	var o config.Objects
	for i := range rapid.IntRange(0, 4).Draw(t, "pools") {
		p := v1beta1.IPAddressPool{ObjectMeta: drawMeta(t, "pool", i)}
		p.Spec.AvoidBuggyIPs = rapid.Bool().Draw(t, "avoid")
		for range rapid.IntRange(0, 3).Draw(t, "entries") {
			p.Spec.Addresses = append(p.Spec.Addresses, drawEntry(t))
		}
		if rapid.Bool().Draw(t, "six") {
			p.Spec.Addresses = append(p.Spec.Addresses, "2001:db8::/64")
		}
		if rapid.Bool().Draw(t, "pinned") {
			p.Spec.AllocateTo = &v1beta1.ServiceAllocation{
				Priority:         rapid.IntRange(-1, 3).Draw(t, "priority"),
				Namespaces:       drawNames(t, "ns"),
				ServiceSelectors: drawSelectors(t),
			}
		}
		o.Pools = append(o.Pools, p)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "l2") {
		ad := v1beta1.L2Advertisement{ObjectMeta: drawMeta(t, "l2", i)}
		ad.Spec.IPAddressPools = drawNames(t, "pool")
		ad.Spec.IPAddressPoolSelectors = drawSelectors(t)
		ad.Spec.NodeSelectors = drawSelectors(t)
		ad.Spec.Interfaces = drawNames(t, "eth")
		o.L2Advertisements = append(o.L2Advertisements, ad)
	}
	drawBGP(t, &o)
	for i := range rapid.IntRange(0, 3).Draw(t, "nodes") {
		o.Nodes = append(o.Nodes, config.Node{Name: fmt.Sprintf("node%d", i), Labels: map[string]string{"tier": fmt.Sprint(i)}})
	}
	return o
}

// drawBGP draws the objects of BGP and BFD.
func drawBGP(t *rapid.T, o *config.Objects) {
	for i := range rapid.IntRange(0, 4).Draw(t, "bgp") {
		ad := v1beta1.BGPAdvertisement{ObjectMeta: drawMeta(t, "bgp", i)}
		ad.Spec.AggregationLength = new(rapid.SampledFrom([]int32{24, 31, 32, 33}).Draw(t, "length"))
		drawAttributes(t, &ad.Spec)
		ad.Spec.ServiceAttributes = rapid.SliceOfN(rapid.SampledFrom([]v1beta1.ServiceAttribute{"med", "localPref", "x"}), 0, 2).Draw(t, "attributes")
		ad.Spec.IPAddressPools = drawNames(t, "pool")
		ad.Spec.Peers = drawNames(t, "peer")
		ad.Spec.NodeSelectors = drawSelectors(t)
		for _, c := range drawNames(t, "name") {
			ad.Spec.Communities = append(ad.Spec.Communities, v1beta1.CommunityRef(c))
		}
		o.BGPAdvertisements = append(o.BGPAdvertisements, ad)
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "peers") {
		p := v1beta2.BGPPeer{ObjectMeta: drawMeta(t, "peer", i)}
		p.Spec.MyASN = rapid.Uint32Range(0, 2).Draw(t, "myASN")
		p.Spec.ASN = rapid.Uint32Range(0, 2).Draw(t, "peerASN")
		p.Spec.Address = rapid.SampledFrom([]string{"", "10.9.0.1", "10.9.0.2", "x"}).Draw(t, "address")
		p.Spec.Prefix = rapid.SampledFrom([]string{"", "", "10.9.0.0/24", "10.9.0.2/31", "::/0", "10.9.0.0"}).Draw(t, "prefix")
		p.Spec.PassiveMode = rapid.Bool().Draw(t, "passive")
		p.Spec.TTLSecurity = rapid.Bool().Draw(t, "ttl")
		p.Spec.EBGPMultiHop = rapid.Bool().Draw(t, "hops")
		p.Spec.NodeSelectors = drawSelectors(t)
		p.Spec.BFDProfile = rapid.SampledFrom([]string{"", "bfd0", "bfd1"}).Draw(t, "profile")
		if rapid.Bool().Draw(t, "timers") {
			p.Spec.HoldTime = &metav1.Duration{Duration: time.Duration(rapid.IntRange(-1, 90).Draw(t, "hold")) * time.Second}
		}
		o.Peers = append(o.Peers, p)
	}
	for i := range rapid.IntRange(0, 2).Draw(t, "profiles") {
		p := v1beta1.BFDProfile{ObjectMeta: drawMeta(t, "bfd", i)}
		p.Spec.EchoMode = new(rapid.Bool().Draw(t, "echo"))
		p.Spec.DetectMultiplier = new(rapid.Uint32Range(1, 5).Draw(t, "multiplier"))
		p.Spec.TransmitInterval = new(rapid.Uint32Range(9, 100).Draw(t, "interval"))
		if rapid.Bool().Draw(t, "signed") {
			p.Spec.Authentication = &v1beta1.BFDAuthentication{
				Type:   rapid.SampledFrom([]v1beta1.BFDAuthenticationType{"KeyedSHA1", "MeticulousKeyedSHA1", "x"}).Draw(t, "type"),
				KeyID:  rapid.Int32Range(-1, 256).Draw(t, "key"),
				Secret: v1beta1.BFDSecretReference{Name: rapid.SampledFrom([]string{"", "s"}).Draw(t, "secret")},
			}
		}
		o.BFDProfiles = append(o.BFDProfiles, p)
	}
	for i := range rapid.IntRange(0, 3).Draw(t, "communities") {
		c := v1beta1.Community{ObjectMeta: drawMeta(t, "community", i)}
		for _, name := range drawNames(t, "name") {
			c.Spec.Communities = append(c.Spec.Communities, v1beta1.CommunityAlias{
				Name: name, Value: rapid.SampledFrom([]string{"1:2", "large:1:2:3", "rt:1:2", "no-export", "x"}).Draw(t, "value"),
			})
		}
		o.Communities = append(o.Communities, c)
	}
}

func drawMeta(t *rapid.T, kind string, i int) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name:              fmt.Sprintf("%s%d", kind, i),
		Labels:            map[string]string{"tier": fmt.Sprint(rapid.IntRange(0, 2).Draw(t, "label"))},
		CreationTimestamp: metav1.Unix(int64(rapid.IntRange(0, 2).Draw(t, "created")), 0),
	}
}

func drawNames(t *rapid.T, kind string) []string {
	var out []string
	for range rapid.IntRange(0, 2).Draw(t, "count") {
		out = append(out, fmt.Sprintf("%s%d", kind, rapid.IntRange(0, 3).Draw(t, kind)))
	}
	return out
}

func drawSelectors(t *rapid.T) []v1beta1.LabelSelector {
	var out []v1beta1.LabelSelector
	for range rapid.IntRange(0, 2).Draw(t, "selectors") {
		out = append(out, v1beta1.LabelSelector{MatchExpressions: []v1beta1.LabelSelectorRequirement{{
			Key:      "tier",
			Operator: rapid.SampledFrom([]string{"In", "NotIn", "Exists", "Maybe"}).Draw(t, "operator"),
			Values:   rapid.SampledFrom([][]string{nil, {"0"}, {"1"}, {"0", "1"}, {"1", "1"}}).Draw(t, "values"),
		}}})
	}
	return out
}

func shuffle[T any](t *rapid.T, items []T) []T { return rapid.Permutation(items).Draw(t, "order") }

func TestOrderOfObjectsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawObjects(t)
		want, wantProblems := config.Compile(o)
		got, gotProblems := config.Compile(config.Objects{
			Pools:             shuffle(t, o.Pools),
			L2Advertisements:  shuffle(t, o.L2Advertisements),
			BGPAdvertisements: shuffle(t, o.BGPAdvertisements),
			Peers:             shuffle(t, o.Peers),
			BFDProfiles:       shuffle(t, o.BFDProfiles),
			Communities:       shuffle(t, o.Communities),
			Nodes:             shuffle(t, o.Nodes),
		})
		if diff := cmp.Diff(config.Describe(want), config.Describe(got)); diff != "" {
			t.Fatalf("snapshot (-want +got):\n%s", diff)
		}
		if !got.Equal(want) {
			t.Fatal("equal text, but not Equal")
		}
		if diff := cmp.Diff(wantProblems, gotProblems); diff != "" {
			t.Fatalf("problems (-want +got):\n%s", diff)
		}
	})
}

// badObjects are objects that are newer than all others and wrong. Each is
// named "bad" and adds itself to a configuration.
var badObjects = map[string]func(*config.Objects, metav1.ObjectMeta){
	"a pool of nonsense": func(o *config.Objects, m metav1.ObjectMeta) {
		o.Pools = append(o.Pools, v1beta1.IPAddressPool{ObjectMeta: m, Spec: v1beta1.IPAddressPoolSpec{
			Addresses: []v1beta1.AddressRange{"nonsense", "10.0.0.1-2001:db8::1", "10.0.3.9-10.0.3.1"}}})
	},
	"a pool over all others": func(o *config.Objects, m metav1.ObjectMeta) {
		// 10.0.0.0/22 is where the others draw from; beside them stands a pool
		// that makes sure of an overlap.
		o.Pools = append(o.Pools, v1beta1.IPAddressPool{ObjectMeta: m, Spec: v1beta1.IPAddressPoolSpec{
			Addresses: []v1beta1.AddressRange{"0.0.0.0/0", "::/0"}}})
	},
	"an L2Advertisement with a bad selector": func(o *config.Objects, m metav1.ObjectMeta) {
		o.L2Advertisements = append(o.L2Advertisements, v1beta1.L2Advertisement{ObjectMeta: m, Spec: v1beta1.L2AdvertisementSpec{
			NodeSelectors: badSelectors, IPAddressPoolSelectors: badSelectors}})
	},
	"a BGPAdvertisement with bad lengths": func(o *config.Objects, m metav1.ObjectMeta) {
		o.BGPAdvertisements = append(o.BGPAdvertisements, v1beta1.BGPAdvertisement{ObjectMeta: m, Spec: v1beta1.BGPAdvertisementSpec{
			AggregationLength: new(int32(99)), Communities: []v1beta1.CommunityRef{"1:2:3"}}})
	},
	"a BGPAdvertisement with another localPref": func(o *config.Objects, m metav1.ObjectMeta) {
		o.BGPAdvertisements = append(o.BGPAdvertisements, v1beta1.BGPAdvertisement{ObjectMeta: m, Spec: v1beta1.BGPAdvertisementSpec{
			LocalPref: 77, Peers: []string{"nobody"}}})
	},
	"a peer without anything": func(o *config.Objects, m metav1.ObjectMeta) {
		o.Peers = append(o.Peers, v1beta2.BGPPeer{ObjectMeta: m})
	},
	"a peer that another one is": func(o *config.Objects, m metav1.ObjectMeta) {
		o.Peers = append(o.Peers, v1beta2.BGPPeer{ObjectMeta: m, Spec: v1beta2.BGPPeerSpec{
			MyASN: 1, ASN: 2, Address: "10.9.0.1", Port: 179}})
	},
	"a peer that all others could be": func(o *config.Objects, m metav1.ObjectMeta) {
		// Beside an address it would be wrong by itself.
		o.Peers = append(o.Peers, v1beta2.BGPPeer{ObjectMeta: m, Spec: v1beta2.BGPPeerSpec{MyASN: 1, ASN: 2, Prefix: "0.0.0.0/0"}})
	},
	"a BGPAdvertisement with a path too long": func(o *config.Objects, m metav1.ObjectMeta) {
		o.BGPAdvertisements = append(o.BGPAdvertisements, v1beta1.BGPAdvertisement{ObjectMeta: m, Spec: v1beta1.BGPAdvertisementSpec{
			ASPathPrepend: -1, ServiceAttributes: []v1beta1.ServiceAttribute{"x"}}})
	},
	"a BFDProfile with an authentication that does not exist": func(o *config.Objects, m metav1.ObjectMeta) {
		o.BFDProfiles = append(o.BFDProfiles, v1beta1.BFDProfile{ObjectMeta: m, Spec: v1beta1.BFDProfileSpec{
			Authentication: &v1beta1.BFDAuthentication{Type: "MD5", KeyID: 1000}}})
	},
	"a BFDProfile out of range": func(o *config.Objects, m metav1.ObjectMeta) {
		o.BFDProfiles = append(o.BFDProfiles, v1beta1.BFDProfile{ObjectMeta: m, Spec: v1beta1.BFDProfileSpec{EchoInterval: new(uint32(1))}})
	},
	"a Community that defines what is defined": func(o *config.Objects, m metav1.ObjectMeta) {
		c := v1beta1.Community{ObjectMeta: m}
		for _, other := range o.Communities {
			c.Spec.Communities = append(c.Spec.Communities, other.Spec.Communities...)
		}
		c.Spec.Communities = append(c.Spec.Communities, v1beta1.CommunityAlias{Name: "new", Value: "99999:1"})
		o.Communities = append(o.Communities, c)
	},
}

var badSelectors = []v1beta1.LabelSelector{{MatchExpressions: []v1beta1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}}

// Adding one bad object changes nothing but what concerns that object.
func TestOneBadObjectHarmsOnlyItself(t *testing.T) {
	for name, add := range badObjects {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				o := drawObjects(t)
				if name == "a pool over all others" {
					o.Pools = append(o.Pools, v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "z"}, Spec: v1beta1.IPAddressPoolSpec{
						Addresses: []v1beta1.AddressRange{"203.0.113.0/24", "2001:db8:1::/64"}}})
				}
				if name == "a Community that defines what is defined" {
					// An alias with a bad value defines nothing, so a later
					// object may define it; only good ones are in the way.
					for i := range o.Communities {
						for j := range o.Communities[i].Spec.Communities {
							o.Communities[i].Spec.Communities[j].Value = "1:2"
						}
					}
				}
				before, problemsBefore := config.Compile(o)
				add(&o, metav1.ObjectMeta{Name: "bad", CreationTimestamp: metav1.Unix(1_000_000, 0)})
				after, problemsAfter := config.Compile(o)

				if diff := cmp.Diff(config.Describe(before), config.Describe(without(after, "bad"))); diff != "" {
					t.Fatalf("the others changed (-before +after):\n%s", diff)
				}
				others := slices.DeleteFunc(slices.Clone(problemsAfter), func(p config.Problem) bool { return p.Name == "bad" })
				if diff := cmp.Diff(problemsBefore, others, emptyIsNil); diff != "" {
					t.Fatalf("the problems of others changed (-before +after):\n%s", diff)
				}
			})
		})
	}
}

var emptyIsNil = cmp.Transformer("emptyIsNil", func(p []config.Problem) []string {
	out := []string{}
	for _, x := range p {
		out = append(out, x.String())
	}
	return out
})

// without takes everything of one name out of a snapshot.
func without(s *config.Snapshot, name string) *config.Snapshot {
	s.Pools = slices.DeleteFunc(s.Pools, func(p *config.Pool) bool { return p.Name == name })
	s.L2Advertisements = slices.DeleteFunc(s.L2Advertisements, func(a *config.L2Advertisement) bool { return a.Name == name })
	s.BGPAdvertisements = slices.DeleteFunc(s.BGPAdvertisements, func(a *config.BGPAdvertisement) bool { return a.Name == name })
	s.Peers = slices.DeleteFunc(s.Peers, func(p *config.Peer) bool { return p.Name == name })
	for _, p := range s.Pools {
		p.L2 = slices.DeleteFunc(p.L2, func(a *config.L2Advertisement) bool { return a.Name == name })
		p.BGP = slices.DeleteFunc(p.BGP, func(a *config.BGPAdvertisement) bool { return a.Name == name })
	}
	return s
}

// Whatever goes in, what comes out holds what Snapshot promises.
func TestSnapshotKeepsItsPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := drawObjects(t)
		input, _ := json.Marshal(o)
		s, problems := config.Compile(o)
		checkPromises(t, s)
		if again, _ := config.Compile(o); !again.Equal(s) {
			t.Fatal("compiling twice gives two results")
		}
		if now, _ := json.Marshal(o); string(now) != string(input) {
			t.Fatal("Compile changed its input")
		}
		for _, p := range problems {
			if p.Kind == "" || p.Name == "" || !strings.HasPrefix(p.Field, "spec.") || p.Message == "" {
				t.Fatalf("a problem that does not say enough: %+v", p)
			}
		}
	})
}

func checkPromises(t interface{ Fatalf(string, ...any) }, s *config.Snapshot) {
	for i, p := range s.Pools {
		if v4, v6 := p.Capacity(); v4 < 0 || v6 < 0 {
			t.Fatalf("pool %s: capacity %d, %d", p.Name, v4, v6)
		}
		for j, a := range p.Prefixes {
			for k, q := range s.Pools {
				for l, b := range q.Prefixes {
					if (i != k || j != l) && a.Overlaps(b) {
						t.Fatalf("%s of pool %s overlaps %s of pool %s", a, p.Name, b, q.Name)
					}
				}
			}
		}
	}
	for i, p := range s.Peers {
		checkPeer(t, p)
		for _, q := range s.Peers[i+1:] {
			everywhere := len(p.NodeSelectors) == 0 && len(q.NodeSelectors) == 0
			inPrefix := p.Prefix.Contains(q.Address) || q.Prefix.Contains(p.Address) || p.Prefix.Overlaps(q.Prefix)
			if everywhere && p.VRF == q.VRF && inPrefix {
				t.Fatalf("a neighbour could be of peer %s and of peer %s", p.Name, q.Name)
			}
		}
	}
	for _, p := range s.BFDProfiles {
		for _, d := range []time.Duration{p.ReceiveInterval, p.TransmitInterval, p.EchoInterval} {
			if d < 50*time.Millisecond || d > time.Minute {
				t.Fatalf("profile %s: interval %s", p.Name, d)
			}
		}
		if p.AuthSecret == "" && (p.AuthMeticulous || p.AuthKeyID != 0) {
			t.Fatalf("profile %s authenticates without a key", p.Name)
		}
	}
	for _, ad := range s.BGPAdvertisements {
		if ad.Prepend > 10 {
			t.Fatalf("advertisement %s: prepend %d", ad.Name, ad.Prepend)
		}
	}
	if !slices.IsSortedFunc(s.Pools, func(a, b *config.Pool) int { return strings.Compare(a.Name, b.Name) }) {
		t.Fatalf("pools are not in name order")
	}
}

func checkPeer(t interface{ Fatalf(string, ...any) }, p *config.Peer) {
	ways := 0
	for _, way := range []bool{p.Address.IsValid(), p.Interface != "", p.Prefix.IsValid()} {
		if way {
			ways++
		}
	}
	switch {
	case ways != 1:
		t.Fatalf("peer %s has %d of an address, an interface and a prefix", p.Name, ways)
	case p.Prefix.IsValid() && (!p.Passive || p.Prefix != p.Prefix.Masked() || p.Prefix.Addr().Is4In6() && p.Prefix.Bits() >= 96):
		t.Fatalf("peer %s: prefix %s, passive %t", p.Name, p.Prefix, p.Passive)
	case p.TTLSecurity && p.EBGPMultiHop:
		t.Fatalf("peer %s is near and far", p.Name)
	case p.EBGPMultiHop && p.BFD != nil && p.BFD.EchoMode:
		t.Fatalf("peer %s: echo over many hops", p.Name)
	}
}
