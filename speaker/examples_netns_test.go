//go:build netns

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/bfd/udp"
	"github.com/heraldlb/herald/speaker/bgp/gobgp"
	"github.com/heraldlb/herald/speaker/observed"
)

// An example is one section of docs/bgp.md with a router in it.
type example struct {
	title string
	// blocks are the fenced texts, by the words after the fence.
	blocks map[string]string
}

// examples reads the page: the pool that they share, and each of them.
func examples(t *testing.T) (pool string, all []example) {
	t.Helper()
	page, err := os.ReadFile("../docs/bgp.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?ms)^```([a-z]+(?: [a-z]+)?)\n(.*?)^```$")
	for i, section := range regexp.MustCompile(`(?m)^##+ `).Split(string(page), -1) {
		title, _, _ := strings.Cut(section, "\n")
		e := example{title: title, blocks: map[string]string{}}
		for _, m := range fence.FindAllStringSubmatch(section, -1) {
			e.blocks[m[1]] = m[2]
		}
		switch {
		case i == 0:
			pool = e.blocks["yaml pool"]
		case e.blocks["yaml herald"] != "":
			all = append(all, e)
		}
	}
	if pool == "" || len(all) < 10 {
		t.Fatalf("the page has %d examples and the pool %q", len(all), pool)
	}
	return pool, all
}

// Every example of docs/bgp.md does what the page says, as it stands there,
// against each router that it has a configuration for.
func TestNetnsExamplesOfTheDocs(t *testing.T) {
	pool, all := examples(t)
	for _, e := range all {
		for kind, start := range map[string]func(testing.TB, *netns.NS, string) *router.Router{"frr": router.FRR, "bird": router.BIRD} {
			conf, ok := e.blocks[kind]
			if !ok {
				continue
			}
			t.Run(e.title+"/"+kind, func(t *testing.T) {
				far := wire(t)
				r := start(t, far, conf)
				objects := configtest.Objects(t, pool+"\n---\n"+e.blocks["yaml herald"])
				if _, problems := config.Compile(objects); len(problems) > 0 {
					t.Fatalf("the objects have problems: %v", problems)
				}
				n := runNode(t, objects)
				want := lines(e.blocks["text routes"])
				if len(want) == 0 {
					t.Fatal("the example says nothing of the routes")
				}
				for _, line := range want {
					prefix := netip.MustParsePrefix(strings.Fields(line)[0])
					var got string
					t.Cleanup(func() {
						if t.Failed() {
							t.Logf("the router has\n  %s\nwant\n  %s\nsessions: %+v\nrouter:\n%s", got, line, n.report.sessions, r.Log())
						}
					})
					netns.Wait(t, 15*time.Second, "route "+line, func() bool {
						got = seen(t, r, kind, prefix)
						return got == line
					})
				}
				for _, line := range lines(e.blocks["text bfd"]) {
					netns.Wait(t, 15*time.Second, "BFD "+line, func() bool { return slices.Contains(n.watched(), line) })
				}
			})
		}
	}
}

// wire makes the router's namespace: its eth0 and the node's are one cable.
func wire(t *testing.T) *netns.NS {
	t.Helper()
	node, far := netns.Self(t), netns.New(t)
	netns.Veth(t, node, "eth0", far, "eth0")
	for _, end := range []struct {
		ns  *netns.NS
		own []string
	}{
		{node, []string{"192.0.2.10/24", "2001:db8::10/64", "fe80::10/64"}},
		{far, []string{"192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"}},
	} {
		end.ns.IP(t, "link set lo up") // the BGP room meets its library there
		end.ns.IP(t, "link set eth0 addrgenmode none")
		end.ns.IP(t, "-6 addr flush dev eth0")
		for _, a := range end.own {
			nodad := ""
			if strings.Contains(a, ":") {
				nodad = " nodad"
			}
			end.ns.IP(t, "addr add "+a+" dev eth0"+nodad)
		}
	}
	far.IP(t, "addr add 198.51.100.1/32 dev lo")
	node.IP(t, "route add 198.51.100.1/32 via 192.0.2.1")
	return far
}

// exampleNode is a speaker's loop with the real rooms of BGP and BFD.
type exampleNode struct {
	*speaker
	bfd *udp.Room
}

// runNode runs the node of the page until the test ends.
func runNode(t *testing.T, objects config.Objects) *exampleNode {
	t.Helper()
	n := &exampleNode{speaker: newSpeaker(t)}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	changed := func() { n.inbox.put(func(n *notes) { n.sessions = true }) }
	sessions, err := gobgp.New(gobgp.Config{Logger: log, OnChange: changed})
	if err != nil {
		t.Fatal(err)
	}
	if n.bfd, err = udp.New(udp.Config{Logger: log, Registerer: prometheus.NewRegistry(), OnChange: changed}); err != nil {
		t.Fatal(err)
	}
	n.rooms.bgp, n.rooms.bfd, n.store.objects = sessions, n.bfd, objects
	n.inbox.node(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-a"},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: "192.0.2.10"}, {Type: corev1.NodeInternalIP, Address: "2001:db8::10"},
		}},
	}, false)
	n.inbox.put(func(n *notes) {
		n.links = &observed.Links{{Index: 2, Name: "eth0", Up: true, Carrier: true, Prefixes: []netip.Prefix{
			netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64"),
		}}}
	})
	n.serve("web", "203.0.113.10", func(s *corev1.Service) {
		s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: "2001:db8:1::10"})
		s.Annotations = map[string]string{service.AnnotationFromPool: "first"}
	})
	ready := true
	var pods []discoveryv1.Endpoint
	for _, node := range []string{"node-a", "node-d"} {
		pods = append(pods, discoveryv1.Endpoint{NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
	}
	n.inbox.slice(slim(t, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		Endpoints:  pods,
	}), false)
	n.inbox.sync()
	ctx, cancel := context.WithCancel(t.Context())
	p := process{heart: newStage(ctx), body: newStage(ctx), hands: newStage(ctx), drain: func() {}}
	p.hands.run("BGP", sessions.Run)
	p.hands.run("BFD", n.bfd.Run)
	p.heart.run("loop", n.loop.run)
	done := make(chan error, 1)
	go func() { done <- p.live() }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return n
}

// watched are the BFD sessions, a line each.
func (n *exampleNode) watched() (all []string) {
	for peer, s := range n.bfd.Observed() {
		all = append(all, peer.Remote.String()+" "+strings.ToLower(s.State.String()))
	}
	return all
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

// seen is a route as the router has it, in the page's words.
func seen(t *testing.T, r *router.Router, kind string, prefix netip.Prefix) string {
	t.Helper()
	if kind == "bird" {
		return seenByBIRD(r.Ask(t, "show route all where net = "+prefix.String()), prefix)
	}
	family := "ipv4"
	if prefix.Addr().Is6() {
		family = "ipv6"
	}
	return seenByFRR(t, r.Ask(t, "show bgp "+family+" unicast "+prefix.String()+" json"), prefix)
}

func seenByFRR(t *testing.T, answer string, prefix netip.Prefix) string {
	t.Helper()
	type communities struct{ String string }
	var route struct {
		Paths []struct {
			ASPath         struct{ String string }
			LocPrf         uint32
			Metric         *uint32
			Community      communities
			LargeCommunity communities
			Nexthops       []struct {
				IP   string
				Used bool
			}
		}
	}
	if err := json.Unmarshal([]byte(answer), &route); err != nil || len(route.Paths) == 0 {
		return fmt.Sprintf("no route (%v): %s", err, answer)
	}
	p := route.Paths[0]
	via := p.Nexthops[0].IP
	for _, hop := range p.Nexthops {
		if hop.Used {
			via = hop.IP
		}
	}
	line := fmt.Sprintf("%s via %s", prefix, via)
	if p.ASPath.String != "" && p.ASPath.String != "Local" {
		line += " as-path " + p.ASPath.String
	} else {
		line += fmt.Sprint(" local-pref ", p.LocPrf)
	}
	if p.Metric != nil && *p.Metric > 0 {
		line += fmt.Sprint(" med ", *p.Metric)
	}
	if p.Community.String != "" {
		names := strings.NewReplacer("no-export", "65535:65281", "no-advertise", "65535:65282")
		line += " communities " + names.Replace(p.Community.String)
	}
	if p.LargeCommunity.String != "" {
		line += " large-communities " + p.LargeCommunity.String
	}
	return line
}

func seenByBIRD(answer string, prefix netip.Prefix) string {
	attributes := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\s+BGP\.([a-z_]+): (.*)$`).FindAllStringSubmatch(answer, -1) {
		attributes[m[1]] = strings.TrimSpace(m[2])
	}
	if len(attributes) == 0 || !strings.Contains(answer, prefix.String()) {
		return "no route: " + answer
	}
	via, _, _ := strings.Cut(attributes["next_hop"], " ")
	line := fmt.Sprintf("%s via %s", prefix, via)
	if path := attributes["as_path"]; path != "" {
		line += " as-path " + path
	} else {
		line += " local-pref " + attributes["local_pref"]
	}
	if med := attributes["med"]; med != "" && med != "0" {
		line += " med " + med
	}
	tuples := strings.NewReplacer("(", "", ")", "", ", ", ":", ",", ":")
	if c := attributes["community"]; c != "" {
		line += " communities " + tuples.Replace(strings.ReplaceAll(c, ") (", " "))
	}
	if c := attributes["large_community"]; c != "" {
		line += " large-communities " + tuples.Replace(strings.ReplaceAll(c, ") (", " "))
	}
	return line
}
