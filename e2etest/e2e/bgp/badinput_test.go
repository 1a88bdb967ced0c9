//go:build lab

package bgp

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// saysConfiguration waits until the ConfigurationState of a node's speaker holds
// some words.
func (s *stage) saysConfiguration(node, words string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		list, err := s.Dynamic.Resource(harness.ConfigurationStates).Namespace(herald.Namespace).List(s.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, o := range list.Items {
			summary, _, _ := unstructured.NestedString(o.Object, "status", "errorSummary")
			if strings.Contains(o.GetName(), node) {
				if !strings.Contains(summary, words) {
					return fmt.Errorf("ConfigurationState %s says %q, want %q in it", o.GetName(), summary, words)
				}
				return nil
			}
		}
		return fmt.Errorf("%s has no ConfigurationState", node)
	})
}

// A peer that cannot work says why, in the words that help, and harms nobody: all
// other sessions stay, and routes to them come and go as before.
func TestPeersThatCannotWork(t *testing.T) {
	for _, tt := range []struct {
		name, spec    string
		reason, words string
		// plane is the AS that the router takes nodes of; "" if it does not matter.
		plane string
	}{
		{"WrongPeerASN", "myASN: 64500, peerASN: 64999", "PeerASNDiffers", "64601", "64500"},
		// The router refuses first, by a NOTIFICATION.
		{"WrongMyASN", "myASN: 64999, peerASN: 64601", "PeerNotification", "Bad Peer AS", "64500"},
		{"NobodyThere", "myASN: 64500, peerASN: 64601, peerAddress: 192.168.200.250", "PeerUnreachable", "", ""},
		{"NoBGPThere", "myASN: 64500, peerASN: 64601, peerAddress: 192.168.200.1, peerPort: 1790", "PeerRefuses", "", ""},
		{"NoSuchSource", ebgp + ", sourceAddress: 192.168.200.99, peerAddress: 192.168.200.1, peerPort: 1791", "SourceAddressMissing", "192.168.200.99", ""},
		{"NoSuchInterface", "myASN: 64500, dynamicASN: external, interface: eth77", "PeerInterfaceMissing", "eth77", ""},
		{"NobodyOnTheInterface", "myASN: 64500, dynamicASN: external, interface: lo", "NeighborUnknown", "", ""},
		{"NoSuchVRF", "myASN: 64500, peerASN: 64601, peerAddress: 192.168.200.1, peerPort: 1792, vrf: red", "PeerInterfaceMissing", "red", ""},
		// The router knows this node already, by the shared session.
		{"SecondSessionFromOneAddress", "myASN: 64500, peerASN: 64601, peerAddress: 192.168.201.1", "PeerNotification", "Collision", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			check := s.untouched()
			spec := tt.spec + ", connectTime: 1s, " + on("node2")
			var bad string
			if tt.plane != "" {
				bad = s.plane(0, tt.plane).peer("bad", false, spec)
			} else {
				bad = s.Peer("bad", spec)
			}
			s.WaitSession(bad, "node2", because(tt.reason, tt.words))
			s.advertiseTo("a", "", bad, shared4, shared6)
			s.web("web")
			s.routed(s.WaitAddresses("web", 2), s.Nodes()...)
			s.Delete(harness.BGPPeers, bad)
			s.Eventually(harness.Patience, func() error {
				list, err := s.SessionsOf(bad)
				if err == nil && len(list) > 0 {
					err = fmt.Errorf("the BGPPeer is deleted, its BGPSessionStatus is not: %+v", list)
				}
				return err
			})
			check()
		})
	}
}

// Objects that contradict themselves or each other are told so where the user
// looks; what is sound goes on.
func TestObjectsThatCannotWork(t *testing.T) {
	t.Run("UnknownBFDProfile", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		check := s.untouched()
		p := s.plane(0, "64500")
		peer := p.peer("v4", false, ebgp+", bfdProfile: nobody-wrote-it, "+on("node1"))
		s.saysConfiguration("node1", "nobody-wrote-it")
		s.warned("BGPPeer", peer, "nobody-wrote-it")
		check()
	})
	t.Run("TwoPeersForOneAddress", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		check := s.untouched()
		second := s.Peer("double", ebgp+", peerAddress: 192.168.200.1")
		s.saysConfiguration("node1", second)
		check()
	})
	t.Run("AggregationShorterThanThePool", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		s.pool = s.Pool("p", "addresses: ["+s.block.Prefix4()+"], autoAssign: false")
		bad := s.advertise("bad", "aggregationLength: 20")
		s.saysConfiguration("node1", bad)
		s.warned("BGPAdvertisement", bad, "20")
		s.advertise("good", "")
		s.web("web", harness.V4)
		s.routed(s.WaitAddresses("web", 1), s.Nodes()...)
		for _, n := range s.Nodes() {
			s.never(n, netip.MustParsePrefix("198.51.96.0/20"))
		}
	})
	t.Run("ConflictingLocalPreferences", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		p := s.plane(0, "64601")
		peer := p.peer("v4", false, ibgp)
		s.advertiseTo("a", "localPref: 100", peer)
		s.advertiseTo("b", "localPref: 200", peer)
		s.web("web", harness.V4)
		a := s.WaitAddress("web")
		s.saysConfiguration("node1", "localPref 200")
		s.warned("BGPAdvertisement", s.Namespace+"-b", "localPref 200")
		// The older one stands.
		for _, n := range s.Nodes() {
			p.path(n, host(a), exactly("local-pref 100"))
		}
		s.advertiseTo("a", "localPref: 200", peer)
		for _, n := range s.Nodes() {
			p.path(n, host(a), exactly("local-pref 200"))
		}
	})
	t.Run("AnUnknownPeerIsLeftOut", func(t *testing.T) {
		t.Parallel()
		s := open(t)
		s.advertiseTo("a", "", shared4, "nobody-made-it")
		s.web("web", harness.V4)
		a := s.WaitAddress("web")
		s.routed([]netip.Addr{a}, s.Nodes()...)
		s.WaitBGPStatus("web", map[string][]string{"node1": {shared4}, "node2": {shared4}, "node3": {shared4}})
	})
}

// never checks that the router has no such route now.
func (s *stage) never(node string, prefix netip.Prefix) {
	s.Helper()
	paths, err := s.tor.Paths(s.Ctx, prefix)
	s.Must(err)
	for _, p := range paths {
		if p.Host == node {
			s.Errorf("%s announces %s", node, prefix)
		}
	}
}

// What the schema can see is refused at once, with a sentence.
func TestAdmissionRefusesWhatItCanSee(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	object := func(version, kind, spec string) string {
		return "apiVersion: metallb.io/" + version + "\nkind: " + kind + "\nmetadata: {name: " + h.Namespace + "}\nspec: " + spec
	}
	for _, tt := range []struct{ name, object, sentence string }{
		{"two addresses", object("v1beta2", "BGPPeer", `{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, interface: eth0}`), "expected exactly one of"},
		{"no ASN", object("v1beta2", "BGPPeer", `{myASN: 1, peerAddress: 10.0.0.1}`), "missing peer ASN and dynamicASN"},
		{"an address that is none", object("v1beta2", "BGPPeer", `{myASN: 1, peerASN: 2, peerAddress: tor.example}`), "expected an IP address"},
		{"a hold time of two seconds", object("v1beta2", "BGPPeer", `{myASN: 1, peerASN: 2, peerAddress: 10.0.0.1, holdTime: 2s}`), "expected 0s or at least 3s"},
		{"a community that is none", object("v1beta1", "BGPAdvertisement", `{communities: ["65536:1"]}`), "invalid community value"},
		{"selectors and aggregation", object("v1beta1", "BGPAdvertisement", `{aggregationLength: 24, serviceSelectors: [{}]}`), "mutually exclusive"},
	} {
		if err := h.TryApply(tt.object); err == nil || !strings.Contains(err.Error(), tt.sentence) {
			t.Errorf("%s: got the error %v, want one with %q", tt.name, err, tt.sentence)
		}
	}
}
