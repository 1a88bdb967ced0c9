//go:build netns

package router_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// Two routers of different kinds tell each other a route.
func TestNetnsRoutersExchangeRoutes(t *testing.T) {
	a, b := netns.New(t), netns.New(t)
	netns.Veth(t, a, "eth0", b, "eth0")
	a.IP(t, "addr add 10.0.0.1/24 dev eth0")
	b.IP(t, "addr add 10.0.0.2/24 dev eth0")
	one := router.FRR(t, a, `
router bgp 64512
 bgp router-id 10.0.0.1
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 10.0.0.2 remote-as 64513
 neighbor 10.0.0.2 timers connect 1
 address-family ipv4 unicast
  network 192.0.2.0/24
`)
	two := router.BIRD(t, b, `
router id 10.0.0.2;
protocol device {}
protocol kernel { ipv4 { export all; }; }
protocol static { ipv4; route 198.51.100.0/24 blackhole; }
protocol bgp { local as 64513; neighbor 10.0.0.1 as 64512; connect retry time 1; ipv4 { import all; export all; }; }
`)
	for _, c := range []struct {
		at     *router.Router
		prefix string
		via    string
	}{
		{one, "198.51.100.0/24", "10.0.0.2"},
		{two, "192.0.2.0/24", "10.0.0.1"},
	} {
		netns.Wait(t, 20*time.Second, c.prefix+" in the kernel", func() bool {
			hops := c.at.Routes(t)[netip.MustParsePrefix(c.prefix)].NextHops
			return len(hops) == 1 && hops[0].Via == netip.MustParseAddr(c.via)
		})
	}
	var summary struct {
		IPv4Unicast struct {
			Peers map[string]struct{ State string }
		}
	}
	one.JSON(t, "show bgp summary json", &summary)
	if got := summary.IPv4Unicast.Peers["10.0.0.2"].State; got != "Established" {
		t.Errorf("FRR says %q of its peer, want Established", got)
	}
	if got := two.Ask(t, "show protocols"); !strings.Contains(got, "Established") {
		t.Errorf("BIRD does not say Established:\n%s", got)
	}
}
