//go:build lab

package bgp

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/lab"
)

// announced waits until every node announces every address of "web" to the shared
// peers with exactly these attributes.
func (s *stage) announced(want string) {
	s.Helper()
	for _, a := range s.addrs {
		s.tor.PathsOf(host(a), func(paths []lab.BGPPath) error {
			var from []string
			for _, p := range paths {
				if err := exactly(want)(p); err != nil {
					return fmt.Errorf("what %s announces: %w", p.Host, err)
				}
				from = append(from, p.Host)
			}
			if !slices.Equal(from, s.Nodes()) {
				return fmt.Errorf("%v announce it, want %v", from, s.Nodes())
			}
			return nil
		})
	}
}

// What an advertisement says is what the router has, in both families.
func TestAttributes(t *testing.T) {
	for _, tt := range []struct{ name, spec, want string }{
		{"Nothing", "", "as-path 64500"},
		{"Community", `communities: ["64500:7"]`, "as-path 64500 communities 64500:7"},
		{"LargeCommunity", `communities: ["large:64500:1:2"]`, "as-path 64500 large 64500:1:2"},
		{"WellKnown", "communities: [no-export, no-peer]", "as-path 64500 communities no-export no-peer"},
		// The router makes it the last resort (RFC 8326).
		{"GracefulShutdown", "communities: [graceful-shutdown]", "as-path 64500 local-pref 0 communities graceful-shutdown"},
		{"Extended", `communities: ["rt:64500:5"]`, "as-path 64500 extended RT:64500:5"},
		{"MED", "med: 50", "as-path 64500 med 50"},
		{"Prepended", "asPathPrepend: 2", "as-path 64500 64500 64500"},
		{"LocalPrefStaysWithin", "localPref: 300", "as-path 64500"},
		{"Everything", `communities: ["64500:1", "64500:2", "large:64500:9:9"], med: 3, asPathPrepend: 1, localPref: 7`,
			"as-path 64500 64500 med 3 communities 64500:1 64500:2 large 64500:9:9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := stageFor(t, tt.spec)
			s.announced(tt.want)
		})
	}
}

// A Community object gives a name to a value; when the value changes, so does the
// route.
func TestCommunityAlias(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	name := "campus-" + s.Namespace
	alias := func(value string) {
		s.Community("names", fmt.Sprintf("communities: [{name: %s, value: %q}]", name, value))
	}
	alias("64500:100")
	s.advertise("a", "communities: ["+name+"]")
	s.web("web")
	s.addrs = s.WaitAddresses("web", 2)
	s.announced("as-path 64500 communities 64500:100")
	alias("large:64500:3:4")
	s.announced("as-path 64500 large 64500:3:4")
	check()
}

// LOCAL_PREF goes to iBGP peers only; the higher one wins there.
func TestLocalPref(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64601")
	v4, v6 := p.peer("v4", false, ibgp), p.peer("v6", true, ibgp)
	s.advertiseTo("low", `localPref: 50, communities: ["64500:50"], `+on("node1", "node2"), v4, v6)
	s.advertiseTo("high", "localPref: 150, "+on("node3"), v4, v6)
	s.web("web")
	s.addrs = s.WaitAddresses("web", 2)
	for _, a := range s.addrs {
		p.path("node1", host(a), exactly("local-pref 50 communities 64500:50"))
		p.path("node3", host(a), exactly("local-pref 150"))
	}
	s.routed(s.addrs, "node3")

	// On the fly, and without a word it is the router's default.
	s.advertiseTo("high", on("node3"), v4, v6)
	for _, a := range s.addrs {
		p.path("node3", host(a), exactly("local-pref 100"))
	}
	s.advertiseTo("low", "localPref: 400, "+on("node1", "node2"), v4, v6)
	s.routed(s.addrs, "node1", "node2")
}

// Two advertisements of one prefix: the communities are united, also when one of
// them changes or goes.
func TestOverlappingAdvertisementsUniteCommunities(t *testing.T) {
	t.Parallel()
	s := stageFor(t, `communities: ["64500:1", "64500:2"]`)
	s.announced("as-path 64500 communities 64500:1 64500:2")
	second := s.advertise("b", `communities: ["64500:2", "64500:3", "large:64500:1:1"]`)
	s.announced("as-path 64500 communities 64500:1 64500:2 64500:3 large 64500:1:1")
	s.advertise("a", `communities: ["64500:9"]`)
	s.announced("as-path 64500 communities 64500:2 64500:3 64500:9 large 64500:1:1")
	s.Delete(harness.BGPAdvertisements, second)
	s.announced("as-path 64500 communities 64500:9")
}

// Attributes and the prefix length change on the fly; no session notices.
func TestAttributesChangeOnTheFly(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "")
	s.announced("as-path 64500")
	check := s.untouched()
	s.advertise("a", `communities: ["64500:1"], med: 10`)
	s.announced("as-path 64500 med 10 communities 64500:1")
	s.advertise("a", `communities: ["64500:2"], med: 20, asPathPrepend: 1`)
	s.announced("as-path 64500 64500 med 20 communities 64500:2")
	s.advertise("a", "")
	s.announced("as-path 64500")

	s.advertise("a", "aggregationLength: 29, aggregationLengthV6: 125")
	for _, a := range s.addrs {
		s.routedPrefix(aggregateOf(a), s.Nodes()...)
	}
	s.routed(s.addrs)
	s.advertise("a", "")
	s.routed(s.addrs, s.Nodes()...)
	for _, a := range s.addrs {
		s.routedPrefix(aggregateOf(a))
	}
	check()
}

// aggregateOf is the prefix of a whole block.
func aggregateOf(a netip.Addr) netip.Prefix {
	return netip.PrefixFrom(a, a.BitLen()-3).Masked()
}

// The aggregate for the world and the single addresses for the neighbours; the
// aggregate stays until the last Service in it is gone.
func TestAggregateAndSingleAddresses(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.pool = s.Pool("p", "addresses: ["+s.block.Prefix4()+", "+s.block.Prefix6()+"], autoAssign: false")
	s.advertise("all", `aggregationLength: 29, aggregationLengthV6: 125, communities: ["64500:29"]`)
	s.advertise("each", "communities: [no-export]")
	s.web("web")
	s.web("other")
	s.addrs = s.WaitAddresses("web", 2)
	others := s.WaitAddresses("other", 2)
	s.announced("as-path 64500 communities no-export")
	for _, a := range s.addrs {
		s.tor.PathFrom("node1", aggregateOf(a), exactly("as-path 64500 communities 64500:29"))
		s.routedPrefix(aggregateOf(a), s.Nodes()...)
	}
	s.DeleteService("web")
	s.routed(s.addrs)
	s.routed(others, s.Nodes()...)
	for _, a := range others {
		s.routedPrefix(aggregateOf(a), s.Nodes()...)
	}
	s.DeleteService("other")
	for _, a := range others {
		s.routedPrefix(aggregateOf(a))
	}
}

// Pools may be chosen by label; a pool that gets the label is announced, one that
// loses it no longer.
func TestPoolLabelSelector(t *testing.T) {
	t.Parallel()
	s := open(t)
	label := func(value string) {
		s.LabelledPool("p", "e2e: "+s.Namespace+", zone: "+value, "addresses: ["+s.block.Range()+"], autoAssign: false")
	}
	label("green")
	s.AdvertiseBGP("a", fmt.Sprintf("ipAddressPoolSelectors: [{matchLabels: {e2e: %s, zone: green}}], peers: [%s, %s], communities: [\"64500:5\"]",
		s.Namespace, shared4, shared6))
	s.web("web")
	s.addrs = s.WaitAddresses("web", 2)
	s.announced("as-path 64500 communities 64500:5")
	label("blue")
	s.routed(s.addrs)
	label("green")
	s.routed(s.addrs, s.Nodes()...)
}

// A Service sets attributes of its own by annotation, where the advertisement lets
// it, and only there.
func TestServiceSetsAttributes(t *testing.T) {
	t.Parallel()
	s := stageFor(t, `communities: ["64500:1"], med: 5, serviceAttributes: [communities, med]`,
		harness.Annotate("heraldlb.io/bgp-communities", "64500:2, no-export"),
		harness.Annotate("heraldlb.io/bgp-med", "77"),
		harness.Annotate("heraldlb.io/bgp-as-path-prepend", "3"))
	s.announced("as-path 64500 med 77 communities 64500:1 64500:2 no-export")
	s.UpdateService("web", func(svc *corev1.Service) {
		svc.Annotations["heraldlb.io/bgp-med"] = "78"
		delete(svc.Annotations, "heraldlb.io/bgp-communities")
	})
	s.announced("as-path 64500 med 78 communities 64500:1")
	// What cannot be read asks for nothing, and is said.
	s.UpdateService("web", func(svc *corev1.Service) { svc.Annotations["heraldlb.io/bgp-med"] = "many" })
	s.announced("as-path 64500 med 5 communities 64500:1")
	s.saysAnnounced("web", metav1.ConditionTrue, "many")
}

// A community that nobody defined keeps its own advertisement back, and says so;
// another one of the same pool works on.
func TestUnknownCommunity(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "communities: [nobody-knows]")
	s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "UnknownCommunity")
	s.routed(s.addrs)
	s.advertise("b", `communities: ["64500:6"]`)
	s.announced("as-path 64500 communities 64500:6")
}
