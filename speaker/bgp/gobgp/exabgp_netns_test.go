//go:build netns

package gobgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// exaLines are ExaBGP's lines for the node on the first link.
func exaLines(peerAS, capabilities, more string) string {
	return fmt.Sprintf(`router-id 10.255.0.1; local-address 10.0.1.1; local-as 64999; peer-as %s;
capability { %s }
%s`, peerAS, capabilities, more)
}

// ExaBGP says and offers odd things, one to each of its neighbours. Each session
// has its routes, or its reason in ExaBGP's words, and none disturbs another.
func TestNetnsExaBGP(t *testing.T) {
	const unicast = "family { ipv4 unicast; ipv6 unicast; }"
	neighbors := []struct {
		lines string
		peer  func(*desired.Session)
	}{
		// It offers all that it knows, families that nobody asked for, and has
		// 1,024 routes.
		{exaLines("64512", "add-path send/receive; asn4 enable; graceful-restart 60; operational enable; route-refresh enable; nexthop enable; extended-message enable; aigp enable; multi-session disable;",
			`passive; hold-time 65535;
family { ipv4 unicast; ipv4 multicast; ipv4 nlri-mpls; ipv4 mpls-vpn; ipv4 flow; ipv6 unicast; ipv6 flow; l2vpn vpls; l2vpn evpn; }
add-path { ipv4 unicast; ipv6 unicast; }
nexthop { ipv4 unicast ipv6; }
static { route 172.16.0.0/12 next-hop 10.0.1.1 split /22; }`), func(*desired.Session) {}},
		// It knows two octets of an AS number, ours has four.
		{exaLines("23456", "asn4 disable; multi-session disable; add-path disable; operational disable; extended-message disable;", "passive; "+unicast),
			func(s *desired.Session) { s.MyASN = 4200000001 }},
		// It refuses whoever has but one session.
		{exaLines("64512", "multi-session enable;", "passive; "+unicast), func(*desired.Session) {}},
		// It dials, with a password, and wants IPv4 alone.
		{exaLines("64512", "multi-session disable; operational disable;", "md5-password 'secret'; md5-base64 false; family { ipv4 unicast; }"),
			func(s *desired.Session) { s.Passive, s.Key = true, "secret" }},
	}
	ns := links(t, len(neighbors))
	all := make(map[string]string)
	var sessions []desired.Session
	r, _ := start(t)
	for i, nb := range neighbors {
		n := i + 1
		all[addr(n, "10.0.1.2").String()] = at(n, nb.lines)
		s := peer(n, nb.peer)
		tell(r, s.Name, routes(everything, fmt.Sprintf("192.0.2.%d/32", n), fmt.Sprintf("2001:db8::%x/128", n)))
		sessions = append(sessions, s)
	}
	exa := router.ExaBGP(t, ns, netip.IPv4Unspecified(), all)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("ExaBGP says:\n%s", exa.Log())
		}
	})
	r.SetSessions(sessions, nil)
	steady1, steady2, steady4 := steady(t, r, "tor1"), steady(t, r, "tor2"), steady(t, r, "tor4")
	for n, want := range map[int][]string{
		1: {"192.0.2.1/32", "2001:db8::1/128"}, 2: {"192.0.2.2/32", "2001:db8::2/128"}, 4: {"192.0.2.4/32"},
	} {
		neighbor := addr(n, "10.0.1.2").String()
		awaitExa(t, exa, neighbor, want...)
		for p, a := range exa.Routes(t, neighbor) {
			hop, path := addr(n, "10.0.1.2"), "[ 64512, 64512, 64512 ]"
			if p.Addr().Is6() {
				hop = addr(n, "fd00:1::2")
			}
			if n == 2 {
				path = "[ 4200000001, 4200000001, 4200000001 ]" // from AS4_PATH
			}
			if a.NextHop != hop.String() || string(a.ASPath) != path || a.MED != 42 {
				t.Errorf("%s is %+v with AS path %s, want next hop %s, AS path %s and MED 42", p, a, a.ASPath, hop, path)
			}
		}
	}

	t.Run("a thousand routes and odd attributes", func(t *testing.T) {
		const nb = "neighbor 10.0.1.2 announce "
		await(t, r, "tor1", "to have heard all", func(s observed.Session) bool { return s.Received >= 1024 })
		// Unknown and transitive, unknown and not, a path of 600 AS, an
		// end of the RIB once more.
		exa.Do(t,
			nb+"route 198.51.100.0/24 next-hop 10.0.1.1 attribute [ 0x99 0xe0 0x00000064 ]",
			nb+"route 198.51.101.0/24 next-hop 10.0.1.1 attribute [ 0xfe 0x80 0x0102 ]",
			nb+"route 198.51.102.0/24 next-hop 10.0.1.1 as-path ["+strings.Repeat(" 64999", 600)+" ]",
			nb+"route 2001:db8:1::/48 next-hop fd00:1::1 large-community [ 1:2:3 ]",
			nb+"eor ipv4 unicast")
		await(t, r, "tor1", "to have heard those too", func(s observed.Session) bool { return s.Received >= 1028 })
		if got := netns.Self(t).IP(t, "route show table all") + netns.Self(t).IP(t, "-6 route show table all"); strings.Contains(got, "172.16.") || strings.Contains(got, "198.51.") {
			t.Errorf("the node has routes of its peer:\n%s", got)
		}
	})
	t.Run("a refresh brings the routes again", func(t *testing.T) {
		told := func(family string) (count int) {
			for _, e := range exa.Events(t, "10.0.1.2") {
				count += len(e.Neighbor.Message.Update.Announce[family])
			}
			return count
		}
		v4, v6 := told("ipv4 unicast"), told("ipv6 unicast")
		exa.Do(t, "neighbor 10.0.1.2 announce route-refresh ipv4 unicast")
		netns.Wait(t, 10*time.Second, "the IPv4 route again", func() bool { return told("ipv4 unicast") == v4+1 })
		if now := told("ipv6 unicast"); now != v6 {
			t.Errorf("IPv6 was told %d times more, though nobody asked", now-v6)
		}
	})
	t.Run("a refusal in words", func(t *testing.T) {
		s := await(t, r, "tor3", "to tell", func(s observed.Session) bool { return s.Reason == reason.PeerNotification })
		if want := "multisession is mandatory with this peer"; !strings.Contains(s.Message, want) {
			t.Errorf("the message is %q, want %q in it", s.Message, want)
		}
	})
	t.Run("a reset in words", func(t *testing.T) {
		before := session1(t, r, "tor4")
		exa.Do(t, "neighbor 10.0.4.2 teardown 4")
		s := await(t, r, "tor4", "to be back", func(s observed.Session) bool {
			return s.State == observed.Established && s.Since.After(before.Since)
		})
		if want := `Cease/Administrative Reset: "Administrative Reset"`; s.LastDown.Reason != reason.PeerNotification || !strings.Contains(s.LastDown.Message, want) {
			t.Errorf("the last end is %+v, want %q in it", s.LastDown, want)
		}
		awaitExa(t, exa, "10.0.4.2", "192.0.2.4/32")
		steady4 = steady(t, r, "tor4")
	})
	// After all that the session still carries what is new.
	r.Apply(desired.BGPChange{"tor1": {Withdraw: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}})
	awaitExa(t, exa, "10.0.1.2", "2001:db8::1/128")
	for _, untouched := range []func(){steady1, steady2, steady4} {
		untouched()
	}
}

// awaitExa waits until ExaBGP has exactly these prefixes of a neighbour.
func awaitExa(t *testing.T, exa *router.Exa, neighbor string, prefixes ...string) {
	t.Helper()
	netns.Wait(t, 20*time.Second, neighbor+" to tell ExaBGP "+strings.Join(prefixes, " "), func() bool {
		got := exa.Routes(t, neighbor)
		for _, p := range prefixes {
			if _, ok := got[netip.MustParsePrefix(p)]; !ok {
				return false
			}
		}
		return len(got) == len(prefixes)
	})
}
