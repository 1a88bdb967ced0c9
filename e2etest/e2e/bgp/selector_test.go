//go:build lab

package bgp

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// Pool A goes to one peer, pool B to the other, and pool C to both.
func TestPoolsToPeers(t *testing.T) {
	t.Parallel()
	s := open(t)
	one, two := s.plane(0, "64500"), s.plane(1, "64500")
	first, second := one.peer("first", false, ebgp), two.peer("second", false, ebgp)
	peers := map[string][]string{"a": {first}, "b": {second}, "c": {first, second}}
	for i, name := range []string{"a", "b", "c"} {
		s.pool = s.Pool(name, fmt.Sprintf("addresses: [%s/32], autoAssign: false", s.block.V4(i+1)))
		s.advertiseTo(name, "", peers[name]...)
		s.web(name, harness.V4)
	}
	// The pool of the whole block would overlap.
	s.Delete(harness.Pools, s.Namespace+"-p")
	for i, name := range []string{"a", "b", "c"} {
		s.WaitAddress(name)
		prefix := host(s.block.V4(i + 1))
		if name != "b" {
			one.path("node1", prefix, exactly("as-path 64500"))
		} else {
			one.noPath(prefix)
		}
		if name != "a" {
			two.path("node1", prefix, exactly("as-path 64500"))
		} else {
			two.noPath(prefix)
		}
		s.WaitBGPStatus(name, s.everywhere(peers[name]...))
	}
}

// One Service through two advertisements: each peer sees its own attributes.
func TestPeersSeeDifferentAttributes(t *testing.T) {
	t.Parallel()
	s := open(t)
	inside, outside := s.plane(0, "64601"), s.plane(1, "64500")
	first, second := inside.peer("first", false, ibgp), outside.peer("second", false, ebgp)
	s.advertiseTo("a", `localPref: 77, communities: ["64500:1"]`, first)
	s.advertiseTo("b", `asPathPrepend: 1, communities: ["64500:2"]`, second)
	s.web("web", harness.V4)
	prefix := host(s.WaitAddress("web"))
	inside.path("node2", prefix, exactly("local-pref 77 communities 64500:1"))
	outside.path("node2", prefix, exactly("as-path 64500 64500 communities 64500:2"))
}

// Advertisements choose nodes; two of one pool add up; labels of nodes count at
// once, and a change withdraws that Service only.
func TestAdvertisementsSelectNodes(t *testing.T) {
	t.Parallel()
	s := stageFor(t, on("node1"))
	check := s.untouched()
	s.routed(s.addrs, "node1")
	key := "e2e/" + s.Namespace
	s.advertise("b", "nodeSelectors: ["+labelled(key)+"]")
	s.routed(s.addrs, "node1")
	s.LabelNode("node3", key, "yes")
	s.routed(s.addrs, "node1", "node3")
	s.LabelNode("node2", key, "yes")
	s.routed(s.addrs, s.Nodes()...)
	s.UnlabelNode("node3", key)
	s.routed(s.addrs, "node1", "node2")

	whole := s.pool
	s.pool = s.Pool("q", "addresses: ["+s.RoutedBlock().Range()+"], autoAssign: false")
	s.advertise("q", "")
	s.web("other")
	others := s.WaitAddresses("other", 2)
	s.routed(others, s.Nodes()...)
	s.pool = whole
	s.advertise("a", on("node3"))
	s.advertise("b", on("node3"))
	s.routed(s.addrs, "node3")
	s.routed(others, s.Nodes()...)
	s.advertise("a", "nodeSelectors: ["+labelled("nobody-has-it")+"]")
	s.advertise("b", "nodeSelectors: ["+labelled("nobody-has-it")+"]")
	s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "NodeNotSelected")
	s.routed(s.addrs)
	s.routed(others, s.Nodes()...)
	check()
}

// A peer is for some nodes; a label brings a node a session, and takes it away.
func TestPeersSelectNodes(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	p := s.plane(0, "64500")
	key := "e2e/" + s.Namespace
	peer := p.peer("v4", false, ebgp+", nodeSelectors: ["+labelled(key)+"]")
	s.LabelNode("node1", key, "yes")
	s.advertiseTo("a", "", peer)
	s.web("web", harness.V4)
	s.addrs = s.WaitAddresses("web", 1)
	s.routed(s.addrs, "node1")
	s.WaitSessions(peer, "node1")
	s.LabelNode("node2", key, "yes")
	s.routed(s.addrs, "node1", "node2")
	s.WaitSessions(peer, "node1", "node2")
	s.UnlabelNode("node1", key)
	s.routed(s.addrs, "node2")
	s.WaitSessions(peer, "node2")
	check()
}

// Advertisements choose Services by label; any of several selectors suffices;
// labels and selectors that change count at once.
func TestAdvertisementsSelectServices(t *testing.T) {
	t.Parallel()
	s := open(t)
	selectors := func(keys ...string) string {
		text := ""
		for i, k := range keys {
			if i > 0 {
				text += ", "
			}
			text += labelled(k)
		}
		return "serviceSelectors: [" + text + "]"
	}
	s.advertise("a", selectors("public", "shown")+`, communities: ["64500:1"]`)
	s.advertise("b", selectors("public")+`, communities: ["64500:2"]`)
	s.web("web", harness.Labelled("shown", "yes"))
	s.web("hidden")
	s.addrs = s.WaitAddresses("web", 2)
	hidden := s.WaitAddresses("hidden", 2)
	s.announced("as-path 64500 communities 64500:1")
	s.WaitCondition("hidden", harness.Announced, metav1.ConditionFalse, "NoMatchingAdvertisement")
	s.routed(hidden)

	s.UpdateService("web", func(svc *corev1.Service) { svc.Labels = map[string]string{"public": "yes"} })
	s.announced("as-path 64500 communities 64500:1 64500:2")
	s.UpdateService("web", func(svc *corev1.Service) { svc.Labels = nil })
	s.routed(s.addrs)
	s.UpdateService("hidden", func(svc *corev1.Service) { svc.Labels = map[string]string{"other": "yes"} })
	s.advertise("b", selectors("other"))
	s.routed(hidden, s.Nodes()...)
	s.routed(s.addrs)
}

// The single address of a chosen Service beside the aggregate of all.
func TestSelectedServiceBesideTheAggregate(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.pool = s.Pool("p", "addresses: ["+s.block.Prefix4()+", "+s.block.Prefix6()+"], autoAssign: false")
	s.advertise("all", "aggregationLength: 29, aggregationLengthV6: 125")
	s.advertise("one", "serviceSelectors: ["+labelled("alone")+`], communities: ["64500:32"]`)
	s.web("web", harness.Labelled("alone", "yes"))
	s.web("other")
	s.addrs = s.WaitAddresses("web", 2)
	others := s.WaitAddresses("other", 2)
	s.announced("as-path 64500 communities 64500:32")
	for _, a := range s.addrs {
		s.routedPrefix(aggregateOf(a), s.Nodes()...)
	}
	s.routed(others)
}

// The peers' session state decides nothing for others: one Service over layer 2
// and BGP at once.
func TestLayer2AndBGPTogether(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.pool = s.Pool("near", "addresses: ["+s.Block(0).Range4()+"], autoAssign: false")
	s.Advertise("a", "ipAddressPools: ["+s.pool+"]")
	s.advertise("a", "")
	s.web("web", harness.V4)
	s.addrs = s.WaitAddresses("web", 1)
	s.routed(s.addrs, s.Nodes()...)
	var owner string
	s.Eventually(harness.Patience, func() (err error) {
		if owner, err = s.OwnerOf("web"); err == nil && owner == "" {
			err = fmt.Errorf("there is no ServiceL2Status")
		}
		return err
	})
	s.saysAnnounced("web", metav1.ConditionTrue, harness.AnnouncedFrom(owner))
	s.saysAnnounced("web", metav1.ConditionTrue, "by BGP")
	text, err := s.Exec(s.Ctx, "tor1", "arping", "-r", "-c", "1", "-w", "2", "-i", "eth0", s.addrs[0].String())
	s.Must(err)
	if mac := s.InterfaceMAC(owner, "eth0"); !strings.Contains(strings.ToLower(text), mac) {
		t.Errorf("%s is answered for by %s, want %s of %s", s.addrs[0], text, mac, owner)
	}
	s.WaitBGPStatus("web", s.everywhere(shared4))
}
