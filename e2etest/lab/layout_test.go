package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func layoutOf(t *testing.T, o Options) Layout {
	t.Helper()
	o, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	l, err := plan(o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheZeroOptionsAreAGoodLab(t *testing.T) {
	l := layoutOf(t, Options{})
	var got []string
	for _, h := range slices.Concat(l.Nodes, l.Clients) {
		line := []string{h.Name, h.Namespace}
		for _, i := range h.Interfaces {
			line = append(line, i.Name, i.MAC)
			for _, p := range i.Prefixes {
				line = append(line, p.String())
			}
		}
		for _, p := range h.PodCIDRs {
			line = append(line, p.String())
		}
		got = append(got, strings.Join(line, " "))
	}
	want := []string{
		"node1 herald-demo-node1 eth0 02:68:6c:62:00:0b 192.168.200.11/24 fd00:200::11/64 10.244.1.0/24 fd00:244:0:1::/64",
		"node2 herald-demo-node2 eth0 02:68:6c:62:00:0c 192.168.200.12/24 fd00:200::12/64 10.244.2.0/24 fd00:244:0:2::/64",
		"node3 herald-demo-node3 eth0 02:68:6c:62:00:0d 192.168.200.13/24 fd00:200::13/64 10.244.3.0/24 fd00:244:0:3::/64",
		"client1 herald-demo-client1 eth0 02:68:6c:62:00:c9 192.168.200.201/24 fd00:200::201/64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, want := l.APIServer(), netip.MustParseAddrPort("172.31.0.1:6443"); got != want {
		t.Errorf("the API server is at %s, want %s", got, want)
	}
}

// In the largest lab no two interfaces share an address or a MAC, and each pod
// CIDR is inside the cluster's and nobody else's.
func TestNothingIsGivenOutTwice(t *testing.T) {
	l := layoutOf(t, Options{Nodes: maxNodes, Clients: maxClients, Segments: make([]SegmentOptions, maxSegments)})
	seen := map[string]string{}
	once := func(what, who string) {
		if other, ok := seen[what]; ok {
			t.Errorf("%s and %s both have %s", other, who, what)
		}
		seen[what] = who
	}
	for _, h := range slices.Concat(l.Nodes, l.Clients) {
		once(h.Namespace, h.Name)
		all := h.Interfaces
		if h.Mgmt != nil {
			all = append(slices.Clone(all), *h.Mgmt)
		}
		for _, i := range all {
			once(i.MAC, h.Name)
			once(i.Port, h.Name)
			if len(i.Port) > 15 {
				t.Errorf("%s: the kernel allows 15 characters in an interface's name", i.Port)
			}
			for _, p := range i.Prefixes {
				once(p.Addr().String(), h.Name)
			}
		}
		for i, p := range h.PodCIDRs {
			once(p.String(), h.Name)
			if !l.PodCIDRs[i].Contains(p.Addr()) {
				t.Errorf("%s: pod CIDR %s is outside of %s", h.Name, p, l.PodCIDRs[i])
			}
		}
	}
}

func TestFamilies(t *testing.T) {
	for families, want := range map[Families]string{
		IPv4Only:  "172.31.0.1:6443 [10.96.0.0/16] [192.168.200.11/24]",
		IPv6Only:  "[fd00:31::1]:6443 [fd00:96::/112] [fd00:200::11/64]",
		DualStack: "172.31.0.1:6443 [10.96.0.0/16 fd00:96::/112] [192.168.200.11/24 fd00:200::11/64]",
	} {
		l := layoutOf(t, Options{Families: families})
		got := l.APIServer().String() + " " + fmtPrefixes(l.ServiceCIDRs) + " " + fmtPrefixes(l.Nodes[0].Interfaces[0].Prefixes)
		if got != want {
			t.Errorf("%s: got %s, want %s", families, got, want)
		}
	}
}

func fmtPrefixes(ps []netip.Prefix) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.String())
	}
	return "[" + strings.Join(s, " ") + "]"
}

func TestSegmentsWithSomeHosts(t *testing.T) {
	l := layoutOf(t, Options{Segments: []SegmentOptions{{}, {Hosts: []string{"node2", "client1"}}}})
	got := map[string]int{}
	for _, h := range slices.Concat(l.Nodes, l.Clients) {
		got[h.Name] = len(h.Interfaces)
	}
	want := map[string]int{"node1": 1, "node2": 2, "node3": 1, "client1": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}

func TestBadOptions(t *testing.T) {
	for _, tc := range []struct {
		story string
		o     Options
		want  string
	}{
		{"a name that would make another lab's prefix", Options{Name: "a-b"}, `lab name "a-b"`},
		{"too many nodes", Options{Nodes: maxNodes + 1}, "lab nodes: 81, want 1 to 80"},
		{"a family that does not exist", Options{Families: "ipx"}, `lab families: "ipx", want dual, ipv4 or ipv6`},
		{"a segment with an unknown host", Options{Segments: []SegmentOptions{{}, {Hosts: []string{"node9"}}}}, `lab segment 1: no host "node9"`},
		{"a node that the first segment leaves out", Options{Segments: []SegmentOptions{{Hosts: []string{"node1", "client1"}}}}, "node2 is not"},
		{"an image without a binary", Options{Images: map[string]string{"x": "/nonexistent/x"}}, "image x: "},
		{"a life that is over", Options{Life: -1}, "lab life: -1ns"},
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
