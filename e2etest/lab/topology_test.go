package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// describe writes a layout as a reader would draw it.
func describe(l Layout) string {
	var out strings.Builder
	for i := range l.Segments {
		var on []string
		for _, h := range l.Hosts() {
			for _, iface := range h.Interfaces {
				if iface.Segment == i {
					on = append(on, h.Name+fmt.Sprint(iface.Addrs()))
				}
			}
		}
		fmt.Fprintf(&out, "segment %d bridge %v: %s\n", i, l.BridgeAddrs(i), strings.Join(on, " "))
	}
	for _, r := range l.Routers {
		fmt.Fprintf(&out, "%s %s AS%d id %s takes %v\n", r.Name, r.Kind, r.ASN, r.ID, r.Ranges)
		for _, n := range r.Neighbors {
			fmt.Fprintf(&out, "  peers with %s AS%d %s\n", n.Name, n.ASN, n.Addr)
		}
		for _, route := range r.Routes {
			fmt.Fprintf(&out, "  %s via %s\n", route.Dst, route.Via)
		}
	}
	for _, n := range l.Nodes {
		peers, err := l.Peers(n.Name)
		fmt.Fprintf(&out, "%s peers with %v %v\n", n.Name, peers, err)
	}
	return out.String()
}

// The plan of each topology, and the configuration of its routers, as files that
// a reader can look at. UPDATE_GOLDEN=1 writes them anew.
func TestTopologies(t *testing.T) {
	for _, topology := range Topologies()[1:] {
		t.Run(string(topology), func(t *testing.T) {
			o := Options{Topology: topology, BGP: BGPOptions{Password: "s3cret"}}
			if topology == V6Only {
				o.Families, o.BGP = DualStack, BGPOptions{NoBFD: true}
			}
			l := layoutOf(t, o)
			o.BGP.NodeASN = DefaultNodeASN
			got := describe(l)
			for _, r := range l.Routers {
				for _, kind := range []RouterKind{FRR, BIRD} {
					if r.Kind = kind; kind == FRR || topology != Multihop {
						got += fmt.Sprintf("\n-- %s, %s --\n%s", r.Name, kind, RouterText(o.BGP, r))
					}
				}
			}
			golden(t, string(topology)+".txt", got)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "topologies", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// Whatever the options, no address, MAC or port is given out twice, every static
// route leads to a neighbour on a segment that its router is on, and every router
// knows a way to every node, pod and client.
func TestTopologiesAreSound(t *testing.T) {
	for _, topology := range Topologies()[1:] {
		for _, families := range []Families{DualStack, IPv6Only, IPv4Only} {
			if topology == V6Only && families == IPv4Only {
				continue
			}
			for _, nodes := range []int{2, 7} {
				l := layoutOf(t, Options{Topology: topology, Families: families, Nodes: nodes, Clients: 2})
				sound(t, fmt.Sprintf("%s %s %d", topology, families, nodes), l)
			}
		}
	}
}

func sound(t *testing.T, what string, l Layout) {
	t.Helper()
	seen := map[string]string{}
	for _, h := range l.Hosts() {
		for _, i := range h.Interfaces {
			for _, key := range append([]string{i.MAC, i.Port}, strings.Fields(strings.Trim(fmt.Sprint(i.Addrs()), "[]"))...) {
				if other, ok := seen[key]; ok {
					t.Errorf("%s: %s and %s both have %s", what, other, h.Name, key)
				}
				seen[key] = h.Name
			}
		}
	}
	for _, r := range l.Routers {
		known := func(p netip.Prefix) bool {
			return !r.speaks(p.Addr()) || within(r, p) || slices.ContainsFunc(r.Routes, func(route Route) bool { return route.Dst == p })
		}
		for _, route := range r.Routes {
			if !slices.ContainsFunc(r.Interfaces, func(i Interface) bool {
				return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Contains(route.Via) })
			}) {
				t.Errorf("%s: %s cannot reach the next hop %s", what, r.Name, route.Via)
			}
		}
		for _, h := range l.Hosts() {
			for _, i := range h.Interfaces {
				for _, p := range append(slices.Clone(i.Prefixes), h.PodCIDRs...) {
					if !known(p.Masked()) {
						t.Errorf("%s: %s knows no way to %s of %s", what, r.Name, p, h.Name)
					}
				}
			}
		}
	}
}

// within reports whether a prefix is that of a segment the router is on.
func within(r Router, p netip.Prefix) bool {
	return slices.ContainsFunc(r.Interfaces, func(i Interface) bool {
		return slices.ContainsFunc(i.Prefixes, func(own netip.Prefix) bool { return own.Masked() == p })
	})
}

func TestBadTopologies(t *testing.T) {
	for _, tc := range []struct {
		story string
		o     Options
		want  string
	}{
		{"a topology that does not exist", Options{Topology: "ring"}, `lab topology: "ring", want one of [flat tor racks multihop v6only]`},
		{"segments beside a preset", Options{Topology: ToR, Segments: make([]SegmentOptions, 2)}, "lays out its own"},
		{"racks that stay empty", Options{Topology: Racks, Nodes: 1}, "at least one for each of the two racks"},
		{"IPv4 with a router that has none", Options{Topology: V6Only, Families: IPv4Only}, "speaks only IPv6"},
		{"a router that the topology lacks", Options{Topology: ToR, BGP: BGPOptions{Routers: map[string]RouterOptions{"spine": {}}}}, `no router "spine" in lab demo, want one of [tor1]`},
		{"a kind that does not exist", Options{Topology: ToR, BGP: BGPOptions{Routers: map[string]RouterOptions{"tor1": {Kind: "ios"}}}}, `kind "ios", want frr or bird`},
		{"a reflector that is BIRD", Options{Topology: Multihop, BGP: BGPOptions{Routers: map[string]RouterOptions{"core": {Kind: BIRD}}}}, "the topology multihop needs"},
		{"a folder too deep for sockets", Options{Topology: ToR, StateDir: "/" + strings.Repeat("deep/", 30)}, "longer than a socket's path may be"},
	} {
		t.Run(tc.story, func(t *testing.T) {
			o, err := tc.o.complete()
			if err == nil {
				_, err = plan(o)
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestHostWithKnowsLinkLocalAddresses(t *testing.T) {
	l := layoutOf(t, Options{Topology: ToR})
	for addr, want := range map[string]string{
		"192.168.200.12": "node2", "fd00:200::1": "tor1", "fe80::68:6cff:fe62:b%eth0": "node1", "192.0.2.1": "",
	} {
		if h, ok := l.HostWith(netip.MustParseAddr(addr)); h.Name != want || ok != (want != "") {
			t.Errorf("%s is %q's, want %q", addr, h.Name, want)
		}
	}
}

func TestParseRoutes(t *testing.T) {
	a := netip.MustParseAddr
	for _, tc := range []struct {
		story, text string
		want        []NextHop
	}{
		{"no route", "[ ]\n", nil},
		{"nothing at all", "", nil},
		{"one way", `[{"dst":"2001:db8::10","nhid":24,"gateway":"fe80::1","dev":"eth1","protocol":"bgp","flags":[]}]`,
			[]NextHop{{Gateway: a("fe80::1"), Dev: "eth1", Weight: 1}}},
		{"several, one through a gateway of the other family, with weights",
			`[{"dst":"198.51.100.10","nhid":41,"protocol":"bgp","nexthops":[{"via":{"family":"inet6","host":"fe80::2"},"dev":"eth0","weight":3,"flags":[]},{"gateway":"192.168.200.11","dev":"eth0","weight":1,"flags":[]}]}]`,
			[]NextHop{{Gateway: a("192.168.200.11"), Dev: "eth0", Weight: 1}, {Gateway: a("fe80::2"), Dev: "eth0", Weight: 3}}},
		{"on the link", `[{"dst":"192.168.200.0/24","dev":"eth0","protocol":"kernel"}]`, []NextHop{{Dev: "eth0", Weight: 1}}},
	} {
		t.Run(tc.story, func(t *testing.T) {
			got, err := parseRoutes(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestParsePath(t *testing.T) {
	p, err := parsePath([]byte(`{"aspath":{"string":"64500 64500"},"origin":"IGP","metric":33,"locPrf":250,"valid":true,"multipath":true,
		"bestpath":{"overall":true},"community":{"string":"64500:7 no-export"},"largeCommunity":{"string":"64500:1:2"},
		"extendedCommunity":{"string":"RT:64500:5 LB:64500:125000 (1.000 Mbps) RT:1:2"},
		"nexthops":[{"ip":"fd00:200::11"},{"ip":"fe80::1"}],"peer":{"peerId":"fd00:200::11"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.From != netip.MustParseAddr("fd00:200::11") || *p.MED != 33 || *p.LocalPref != 250 || p.ASPath != "64500 64500" || !p.Best || !p.Multipath || p.Stale || len(p.NextHops) != 2 {
		t.Errorf("%+v", p)
	}
	for what, pair := range map[string][2][]string{
		"communities": {p.Communities, {"64500:7", "no-export"}},
		"large":       {p.Large, {"64500:1:2"}},
		"extended":    {p.Extended, {"RT:64500:5", "LB:64500:125000 (1.000 Mbps)", "RT:1:2"}},
	} {
		if diff := cmp.Diff(pair[1], pair[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestParseBIRD(t *testing.T) {
	neighbors := parseBIRDNeighbors(`BIRD 2.0.12 ready.
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     00:35:24.164

nodes0     BGP        ---        start  00:35:25.757  Passive
  BGP state:          Passive
    Neighbor range:   192.168.200.0/24
node4_1    BGP        ---        up     00:35:25.757  Established
  BGP state:          Established
    Neighbor address: 192.168.200.11
    Neighbor AS:      64500
    Local AS:         64601
    Neighbor ID:      10.254.0.1
  Channel ipv4
    Routes:         2 imported, 4 exported, 1 preferred
  Channel ipv6
    Routes:         3 imported, 4 exported, 1 preferred
node6_2    BGP        ---        start  00:35:25.757  Idle
  BGP state:          Idle
    Neighbor address: fe80::1%eth0
`)
	want := []BGPNeighbor{
		{Addr: netip.MustParseAddr("192.168.200.11"), State: "Established", RemoteASN: 64500, LocalASN: 64601, RouterID: "10.254.0.1", Received: map[string]int{"ipv4": 2, "ipv6": 3}},
		{Addr: netip.MustParseAddr("fe80::1"), State: "Idle", Received: map[string]int{}},
	}
	if diff := cmp.Diff(want, neighbors, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	sessions := parseBIRDSessions(`bfd1:
IP address                Interface  State      Since         Interval  Timeout
192.168.203.2             eth3       Up         00:35:35.323    0.300    0.900
fd00:203::2               ---        Down       00:35:35.323    0.300    0.900
`)
	if len(sessions) != 2 || sessions[0].Status != "up" || sessions[1].Status != "down" || !sessions[1].Addr.Is6() {
		t.Errorf("%+v", sessions)
	}
}
