package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/config/configtest"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// fakeBGP holds the routes and sessions that it was told.
type fakeBGP struct {
	routes   desired.BGPRoutes
	sessions []desired.Session
	refused  []desired.Refusal
	bfd      observed.BFD
	reached  observed.BGP
	// parted has an entry for each farewell: whether this node comes back. It
	// goes on beside the rest of the drain, so it is not in the story.
	parted []bool
	story  *[]string
}

func (f *fakeBGP) Apply(c desired.BGPChange) {
	for _, peer := range slices.Sorted(maps.Keys(c)) {
		if f.routes[peer] == nil {
			f.routes[peer] = desired.Routes{}
		}
		for prefix, a := range c[peer].Announce {
			f.routes[peer][prefix] = a
			*f.story = append(*f.story, fmt.Sprintf("tell %s of %s", peer, prefix))
		}
		for _, prefix := range c[peer].Withdraw {
			delete(f.routes[peer], prefix)
			*f.story = append(*f.story, fmt.Sprintf("withdraw %s from %s", prefix, peer))
		}
	}
}

func (f *fakeBGP) SetSessions(all []desired.Session, refused []desired.Refusal) {
	f.sessions, f.refused = all, refused
	if len(all) == 0 {
		return
	}
	var peers []string
	for _, s := range all {
		peers = append(peers, s.Name)
	}
	*f.story = append(*f.story, fmt.Sprint("sessions ", peers))
}
func (f *fakeBGP) SetBFD(now observed.BFD) { f.bfd = now }
func (f *fakeBGP) Observed() observed.BGP  { return f.reached }
func (f *fakeBGP) Shutdown(_ context.Context, comesBack bool) {
	f.parted = append(f.parted, comesBack)
}

// fakeBFD holds the sessions that it was told.
type fakeBFD struct {
	want    desired.BFD
	reached observed.BFD
}

func (f *fakeBFD) Set(want desired.BFD)   { f.want = want }
func (f *fakeBFD) Observed() observed.BFD { return f.reached }

const twoRouters = `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: pool}
spec: {addresses: [192.168.1.240-192.168.1.250]}
---
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: all}
---
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: fast}
spec: {receiveInterval: 100}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor1}
spec: {myASN: 64512, peerASN: 64600, peerAddress: 192.168.1.1, bfdProfile: fast}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: tor2}
spec: {myASN: 64512, peerASN: 64600, peerAddress: 192.168.1.2, passwordSecret: {name: tor2}}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: elsewhere}
spec: {myASN: 64512, peerASN: 64600, peerAddress: 192.168.1.3, nodeSelectors: [{matchLabels: {rack: b}}]}
`

// withBGP replaces the configuration by one with routers.
func withBGP(t *testing.T) *speaker {
	s := newSpeaker(t)
	s.store.objects = configtest.Objects(t, twoRouters)
	return s
}

// All routes are there before the first session, and BGP waits neither for the
// ring nor for the links.
func TestRoutesComeBeforeSessions(t *testing.T) {
	s := withBGP(t)
	s.ring.members.Settled, s.ring.members.Waiting = false, "no key"
	s.store.secrets = plan.Secrets{"tor2": {Key: "between us"}}
	s.serve("web", "192.168.1.240")
	s.look()
	if len(s.story) != 0 {
		t.Errorf("before the API server's objects are known: %v", s.story)
	}
	s.inbox.sync()
	s.look()
	want := []string{"tell tor1 of 192.168.1.240/32", "tell tor2 of 192.168.1.240/32", "sessions [tor1 tor2]"}
	if diff := cmp.Diff(want, s.story); diff != "" {
		t.Errorf("story (-want +got):\n%s", diff)
	}
	if got := s.bgp.sessions[1].Key; got != "between us" {
		t.Errorf("the key of tor2 is %q", got)
	}
	s.wantAnnounced("on layer 2, without a ring")
}

// A Service touches no session; a Secret and a label of the node do.
func TestWhatTouchesSessions(t *testing.T) {
	s := withBGP(t)
	s.known().look()
	if len(s.bgp.refused) != 1 || s.bgp.refused[0].Peer != "tor2" || s.bgp.refused[0].Reason != reason.SecretMissing {
		t.Errorf("refused %v, want tor2 for its Secret", s.bgp.refused)
	}
	for _, step := range []struct {
		what string
		do   func()
		want []string // what the BGP room is told of sessions
	}{
		{"a Service", func() { s.serve("web", "192.168.1.240") }, nil},
		{"a Secret", func() {
			s.store.secrets = plan.Secrets{"tor2": {Key: "between us"}}
			s.inbox.put(func(n *notes) { n.secrets = true })
		}, []string{"sessions [tor1 tor2]"}},
		{"a label of another node", func() { s.label("node-d", "rack", "b") }, nil},
		{"a label of this node", func() { s.label("node-a", "rack", "b") }, []string{"sessions [elsewhere tor1 tor2]"}},
	} {
		s.story = nil
		step.do()
		s.look()
		told := slices.DeleteFunc(s.story, func(line string) bool { return !strings.HasPrefix(line, "sessions ") })
		if diff := cmp.Diff(step.want, told, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.what, diff)
		}
	}
}

// The routers of two racks have one address. Each node has one of them, and
// none is a contradiction of the other.
func TestPeersOfRacksThatShareAnAddress(t *testing.T) {
	s := newSpeaker(t)
	s.store.objects = configtest.Objects(t, `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: a}
spec: {myASN: 64512, peerASN: 64600, peerAddress: 192.168.1.1, nodeSelectors: [{matchLabels: {rack: a}}]}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: b}
spec: {myASN: 64512, peerASN: 64601, peerAddress: 192.168.1.1, nodeSelectors: [{matchLabels: {rack: b}}]}
`)
	for _, rack := range []string{"a", "b"} {
		s.label("node-a", "rack", rack)
		s.known().look()
		if want := "sessions [" + rack + "]"; len(s.report.problems) > 0 || s.story[len(s.story)-1] != want {
			t.Errorf("in rack %s: problems %v, story %v; want %s", rack, s.report.problems, s.story, want)
		}
	}
}

func (s *speaker) label(node, key, value string) {
	s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: map[string]string{key: value}}}, false)
}

// What BFD says of a peer reaches BGP, and both reach the report.
func TestForwardingIsWatched(t *testing.T) {
	s := withBGP(t)
	s.known().look()
	if len(s.bfd.want) > 0 {
		t.Errorf("before the session was up, BFD sessions %v, want none", s.bfd.want)
	}
	s.bgp.reached = observed.BGP{{Peer: "tor1", State: observed.Established, Watch: true}}
	s.inbox.put(func(n *notes) { n.sessions = true })
	s.look()
	tor1 := observed.BFDPeer{Remote: netip.MustParseAddr("192.168.1.1")}
	var peers []observed.BFDPeer
	for p, parameters := range s.bfd.want {
		peers = append(peers, observed.BFDPeer{Remote: p.Remote})
		if parameters.ReceiveInterval != 100*time.Millisecond {
			t.Errorf("interval %s, want that of the profile", parameters.ReceiveInterval)
		}
		s.bfd.reached = observed.BFD{p: {State: observed.BFDDown, WasUp: true, Reason: reason.BFDDetectionTimeExpired}}
	}
	if diff := cmp.Diff([]observed.BFDPeer{tor1}, peers, cmpAddr); diff != "" {
		t.Errorf("BFD sessions (-want +got):\n%s", diff)
	}
	s.inbox.put(func(n *notes) { n.sessions = true })
	s.look()
	for _, got := range []observed.BFD{s.bgp.bfd, s.report.forwarding} {
		if len(got) != 1 {
			t.Errorf("told of %d BFD sessions, want one", len(got))
		}
	}
}

// A speaker that is told to end comes back, unless its node is being emptied.
func TestPartingFromPeers(t *testing.T) {
	for _, cordoned := range []bool{false, true} {
		s := withBGP(t)
		s.inbox.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-a"}, Spec: corev1.NodeSpec{Unschedulable: cordoned}}, false)
		s.known().look()
		s.drain()
		if diff := cmp.Diff([]bool{!cordoned}, s.bgp.parted); diff != "" {
			t.Errorf("cordoned %t: comes back (-want +got):\n%s", cordoned, diff)
		}
	}
}
