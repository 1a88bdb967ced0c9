//go:build netns

package gobgp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// path is a path in FRR's JSON.
type path struct {
	ASPath struct{ String string }
	Metric, LocPrf,
	Weight *int
	Community, LargeCommunity, ExtendedCommunity struct{ String string }
	Nexthops                                     []struct{ IP, Scope string }
}

// pathOf asks FRR for the only path of a prefix.
func pathOf(t *testing.T, r *router.Router, prefix string) path {
	t.Helper()
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	var answer struct{ Paths []path }
	out := r.Ask(t, "show bgp "+family+" unicast "+prefix+" json")
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Paths) != 1 {
		t.Fatalf("%s has not one path (%v):\n%s", prefix, err, out)
	}
	return answer.Paths[0]
}

// everything is a set of attributes of every kind.
var everything = desired.Attributes{
	LocalPref: 333, MED: ptr(uint32(42)), Prepend: 2, Weight: 3,
	Communities: []config.Community{
		{Kind: config.StandardCommunity, Fields: [3]uint32{64512, 100}},
		{Kind: config.StandardCommunity, Fields: [3]uint32{65535, 65281}},
		{Kind: config.LargeCommunity, Fields: [3]uint32{4200000001, 7, 8}},
		{Kind: config.ExtendedCommunity, Fields: [3]uint32{0x0002fc00, 0x00000064}}, // route target 64512:100
	},
}

// Attributes of every kind arrive, on both families, at a peer of another AS and
// at one of our own; changing them replaces the route in place.
func TestNetnsAttributes(t *testing.T) {
	for _, internal := range []bool{false, true} {
		t.Run(fmt.Sprintf("internal=%t", internal), func(t *testing.T) {
			ns := link(t, 1)
			asn, path, pref := 64512, "64512 64512 64512", 0
			if internal {
				asn, path, pref = 64999, "", 333
			}
			tor := frr(t, ns, 1, fmt.Sprintf("neighbor 10.0.1.2 remote-as %d", asn))
			r, _ := start(t)
			plain := desired.Attributes{}
			tell(r, "tor1", routes(plain, "192.0.2.1/32", "2001:db8::1/128"))
			r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.MyASN = uint32(asn) })}, nil)
			awaitRoutes(t, tor, "192.0.2.1/32", "2001:db8::1/128")
			untouched := steady(t, r, "tor1")
			got := pathOf(t, tor, "192.0.2.1/32")
			if internal && (got.LocPrf == nil || *got.LocPrf != 100) || got.Community.String != "" {
				t.Errorf("without attributes the path is %+v", got)
			}
			tell(r, "tor1", routes(everything, "192.0.2.1/32", "2001:db8::1/128"))
			for _, prefix := range []string{"192.0.2.1/32", "2001:db8::1/128"} {
				netns.Wait(t, 10*time.Second, prefix+" with communities", func() bool {
					return pathOf(t, tor, prefix).Community.String != ""
				})
				got := pathOf(t, tor, prefix)
				for _, c := range []struct{ what, got, want string }{
					{"AS path", strings.TrimSpace(strings.TrimSuffix(got.ASPath.String, "Local")), path},
					{"communities", got.Community.String, "64512:100 no-export"},
					{"large communities", got.LargeCommunity.String, "4200000001:7:8"},
				} {
					if c.got != c.want {
						t.Errorf("%s: %s is %q, want %q", prefix, c.what, c.got, c.want)
					}
				}
				for _, want := range []string{"RT:64512:100", fmt.Sprintf("LB:%d:375000000", asn)} {
					if !strings.Contains(got.ExtendedCommunity.String, want) {
						t.Errorf("%s: extended communities %q lack %q", prefix, got.ExtendedCommunity.String, want)
					}
				}
				if got.Metric == nil || *got.Metric != 42 {
					t.Errorf("%s: MED is %v, want 42", prefix, got.Metric)
				}
				if internal != (got.LocPrf != nil) || internal && *got.LocPrf != pref {
					t.Errorf("%s: local preference is %v, want %d on iBGP only", prefix, got.LocPrf, pref)
				}
			}
			untouched()
		})
	}
}

// FRR weighs two nodes by their endpoints. The second node is a second session of
// this one, from another address.
func TestNetnsWeights(t *testing.T) {
	ns := link(t, 1)
	netns.Self(t).IP(t, "addr add 10.0.1.3/24 dev rtr1")
	tor := frr(t, ns, 1, `bgp bestpath as-path multipath-relax
 neighbor 10.0.1.3 remote-as 64512
 neighbor 10.0.1.3 timers connect 1`)
	r, _ := start(t)
	for name, weight := range map[string]int{"tor1": 1, "other": 3} {
		tell(r, name, routes(desired.Attributes{Weight: weight}, "192.0.2.1/32"))
	}
	r.SetSessions([]desired.Session{
		peer(1, func(s *desired.Session) { s.Source = netip.MustParseAddr("10.0.1.2") }),
		peer(1, func(s *desired.Session) {
			s.Name, s.Source, s.ID = "other", netip.MustParseAddr("10.0.1.3"), netip.MustParseAddr("10.255.0.3")
		}),
	}, nil)
	weights := func() map[string]int {
		m := make(map[string]int)
		for _, h := range tor.Routes(t)[netip.MustParsePrefix("192.0.2.1/32")].NextHops {
			m[h.Via.String()] = h.Weight
		}
		return m
	}
	netns.Wait(t, 30*time.Second, "three quarters through the node with three endpoints", func() bool {
		w := weights()
		return len(w) == 2 && w["10.0.1.3"] == 3*w["10.0.1.2"]
	})
	tell(r, "tor1", routes(desired.Attributes{Weight: 3}, "192.0.2.1/32"))
	netns.Wait(t, 30*time.Second, "equal weights", func() bool {
		w := weights()
		return len(w) == 2 && w["10.0.1.3"] == w["10.0.1.2"]
	})
}

// A peer two hops away is reached with ebgpMultiHop and not without, and the
// difference is made while the configuration changes.
func TestNetnsMultihop(t *testing.T) {
	ns := link(t, 1)
	ns.IP(t, "link set lo up")
	ns.IP(t, "addr add 10.99.0.1/32 dev lo")
	far := netns.New(t)
	netns.Veth(t, ns, "far", far, "eth0")
	ns.IP(t, "addr add 10.0.2.2/24 dev far")
	far.IP(t, "addr add 10.0.2.1/24 dev eth0")
	far.IP(t, "route add default via 10.0.2.2")
	netns.Self(t).IP(t, "route add 10.0.2.0/24 via 10.0.1.1")
	t.Cleanup(func() { _, _ = netns.Self(t).Try(t, "ip", "route", "del", "10.0.2.0/24") })
	tor := router.FRR(t, far, `
router bgp 64999
 bgp router-id 10.0.2.1
 no bgp ebgp-requires-policy
 neighbor 10.0.1.2 remote-as 64512
 neighbor 10.0.1.2 ebgp-multihop 5
exit
`)
	r, _ := start(t)
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32"))
	multihop := func(on bool) []desired.Session {
		return []desired.Session{peer(1, func(s *desired.Session) {
			s.Address, s.EBGPMultiHop = netip.MustParseAddr("10.0.2.1"), on
		})}
	}
	r.SetSessions(multihop(false), nil)
	await(t, r, "tor1", "to name the way out", func(s observed.Session) bool { return strings.Contains(s.Message, "ebgpMultiHop") })
	r.SetSessions(multihop(true), nil)
	awaitUp(t, r, "tor1")
	netns.Wait(t, 10*time.Second, "the route at the far router", func() bool {
		return strings.Contains(tor.Ask(t, "show bgp ipv4 unicast"), "192.0.2.1/32")
	})
}
