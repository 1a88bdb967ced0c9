//go:build netns

package gobgp

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// series reads a registry: "name{peer,vrf}" → value.
func series(t *testing.T, reg *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			all[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return all
}

// The metrics say what happened on the wire.
func TestNetnsMetrics(t *testing.T) {
	ns := link(t, 1)
	reg := prometheus.NewRegistry()
	r, _ := start(t, func(c *Config) { c.Registerer = reg })
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128"))
	r.SetSessions([]desired.Session{peer(1)}, nil)
	key := func(name string) string { return "metallb_bgp_" + name + "{peer=10.0.1.1:179,vrf=}" }
	before := series(t, reg)
	if before[key("session_up")] != 0 || before[key("pending_prefixes_total")] != 3 {
		t.Errorf("before the session: %v", before)
	}
	tor := frr(t, ns, 1, "")
	awaitUp(t, r, "tor1")
	awaitRoutes(t, tor, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::1/128")
	got := series(t, reg)
	for name, want := range map[string]float64{
		"session_up": 1, "announced_prefixes_total": 3, "pending_prefixes_total": 0,
		"notifications_sent": 0, "route_refresh_sent": 0,
	} {
		if v, ok := got[key(name)]; !ok || v != want {
			t.Errorf("%s is %v, want %v", key(name), v, want)
		}
	}
	for _, name := range []string{"opens_sent", "opens_received", "updates_total", "keepalives_sent", "keepalives_received", "total_sent", "total_received"} {
		if got[key(name)] < 1 {
			t.Errorf("%s is %v", key(name), got[key(name)])
		}
	}
	r.SetSessions(nil, nil)
	netns.Wait(t, 10*time.Second, "the series to go with the session", func() bool { return len(series(t, reg)) == 0 })
}

// Refusals are shown beside the sessions, with the time since when.
func TestNetnsRefusedPeersAreShown(t *testing.T) {
	r, _ := start(t)
	refused := []desired.Refusal{{Peer: "tor9", Reason: reason.SecretMissing, Message: "Secret bgp does not exist."}}
	r.SetSessions(nil, refused)
	first := session1(t, r, "tor9")
	r.SetSessions(nil, refused)
	if again := session1(t, r, "tor9"); again != first || first.State != observed.Blocked || first.Reason != reason.SecretMissing {
		t.Errorf("first %+v, then %+v", first, again)
	}
}

// A hundred thousand received routes leave nothing behind, in memory or in the
// kernel.
func TestNetnsReceivedRoutesCostNoMemory(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	var lines strings.Builder
	const many = 100000
	for i := range many {
		fmt.Fprintf(&lines, "route 172.%d.%d.%d/32 blackhole;\n", 16+i>>16, i>>8&255, i&255)
	}
	config := `
router id 10.0.1.1;
protocol device {}
protocol static { ipv4; ` + lines.String() + ` }
protocol bgp { local as 64999; neighbor 10.0.1.2 as 64512; connect retry time 1; ipv4 { import none; export %s; }; }
`
	tor := router.BIRD(t, ns, fmt.Sprintf(config, "none"))
	r.SetSessions([]desired.Session{peer(1)}, nil)
	awaitUp(t, r, "tor1")
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	tor.Configure(t, fmt.Sprintf(config, "all"))
	s := await(t, r, "tor1", "to have heard all", func(s observed.Session) bool { return s.Received >= many })
	grown := int64(heap()) - int64(before)
	t.Logf("the heap grew by %d KiB over %d received prefixes", grown/1024, many)
	if grown > 2<<20 {
		t.Errorf("the heap grew by %d KiB", grown/1024)
	}
	if s.State != observed.Established {
		t.Errorf("the session is %+v", s)
	}
	if got := netns.Self(t).IP(t, "route show table all"); strings.Contains(got, "172.16") {
		t.Error("received routes are in the node's table")
	}
}

// BIRD takes both families over IPv6 alone, with a password and GTSM, with every
// attribute but those that must stay in our AS.
func TestNetnsBIRD(t *testing.T) {
	ns := link(t, 1)
	ns.IP(t, "-4 addr flush dev eth0")
	netns.Self(t).IP(t, "-4 addr flush dev rtr1")
	tor := router.BIRD(t, ns, `
router id 10.0.1.1;
protocol device {}
protocol direct { ipv4; ipv6; }
protocol kernel { ipv4 { export where source = RTS_BGP; }; }
protocol kernel { ipv6 { export where source = RTS_BGP; }; }
protocol bgp { local as 64999; neighbor fd00:1::2 as 64512; connect retry time 1; password "secret"; ttl security on;
  ipv4 { import all; export none; extended next hop on; };
  ipv6 { import all; export none; };
}
`)
	r, _ := start(t)
	tell(r, "tor1", routes(everything, "192.0.2.1/32", "2001:db8::1/128"))
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) {
		s.Address, s.Key, s.TTLSecurity = netip.MustParseAddr("fd00:1::1"), "secret", true
	})}, nil)
	awaitUp(t, r, "tor1")
	got := awaitRoutes(t, tor, "192.0.2.1/32", "2001:db8::1/128")
	for p, route := range got {
		if len(route.NextHops) != 1 || route.NextHops[0].Via != netip.MustParseAddr("fd00:1::2") {
			t.Errorf("%s goes via %v, want fd00:1::2", p, route.NextHops)
		}
	}
	out := tor.Ask(t, "show route 192.0.2.1/32 all")
	for _, want := range []string{"64512 64512 64512", "BGP.med: 42", "(64512,100)", "(4200000001, 7, 8)", "(rt, 64512, 100)"} {
		if !strings.Contains(out, want) {
			t.Errorf("BIRD does not show %q:\n%s", want, out)
		}
	}
	if strings.Contains(out, "333") {
		t.Errorf("LOCAL_PREF reached another AS:\n%s", out)
	}
}

// Without a global IPv6 address the IPv6 prefixes stay at home, with a word why:
// a mapped next hop would lead nowhere.
func TestNetnsNoNextHopForIPv6(t *testing.T) {
	ns := link(t, 1)
	netns.Self(t).IP(t, "-6 addr flush dev rtr1 scope global")
	tor := frr(t, ns, 1, "")
	r, _ := start(t)
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "2001:db8::1/128"))
	r.SetSessions([]desired.Session{peer(1)}, nil)
	s := awaitUp(t, r, "tor1")
	awaitRoutes(t, tor, "192.0.2.1/32")
	if !strings.Contains(s.Message, "no global IPv6 address") {
		t.Errorf("the message is %q", s.Message)
	}
}
