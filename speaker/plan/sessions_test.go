package plan_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// compiled is the configuration of YAML documents without their apiVersion.
func compiled(t *testing.T, text string) *config.Snapshot {
	t.Helper()
	text = strings.ReplaceAll(text, "kind: BGPPeer\n", "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\n")
	text = strings.ReplaceAll(text, "kind: BFDProfile\n", "apiVersion: metallb.io/v1beta1\nkind: BFDProfile\n")
	objects := configtest.Objects(t, text)
	for _, node := range []string{"east", "west"} {
		objects.Nodes = append(objects.Nodes, config.Node{Name: node, Labels: map[string]string{"zone": node}})
	}
	snapshot, problems := config.Compile(objects)
	for _, p := range problems {
		if p.Severity == config.Error {
			t.Fatalf("the configuration is wrong: %+v", p)
		}
	}
	return snapshot
}

// peerYAML is a BGPPeer with the rest of its spec.
func peerYAML(name, spec string) string {
	return fmt.Sprintf("---\nkind: BGPPeer\nmetadata: {name: %s}\nspec: {myASN: 64512, %s}\n", name, spec)
}

func TestSessionsOfANode(t *testing.T) {
	snapshot := compiled(t, peerYAML("z-west", `peerASN: 64513, peerAddress: 172.16.0.9, nodeSelectors: [{matchLabels: {zone: west}}]`)+
		peerYAML("four", `peerASN: 64513, peerAddress: 172.16.0.1`)+
		peerYAML("six", `peerASN: 64513, peerAddress: "fd00::1"`)+
		peerYAML("both", `peerASN: 64513, peerAddress: "fd00::2", dualStackAddressFamily: true`)+
		peerYAML("unnumbered", `peerASN: 64513, interface: eth0`)+
		peerYAML("named", `peerASN: 64513, peerAddress: 172.16.0.2, routerID: 10.0.0.1`)+
		peerYAML("dynamic", `dynamicASN: external, peerPrefix: "fd00:1::/64"`)+
		peerYAML("dynamic-both", `dynamicASN: external, peerPrefix: 172.17.0.0/16, dualStackAddressFamily: true`))
	for node, want := range map[string][]string{
		"east": {"both 46 192.0.2.1", "dynamic 6 192.0.2.1", "dynamic-both 46 192.0.2.1", "four 4 192.0.2.1", "named 4 10.0.0.1", "six 6 192.0.2.1", "unnumbered 46 192.0.2.1"},
		"west": {"both 46 192.0.2.1", "dynamic 6 192.0.2.1", "dynamic-both 46 192.0.2.1", "four 4 192.0.2.1", "named 4 10.0.0.1", "six 6 192.0.2.1", "unnumbered 46 192.0.2.1", "z-west 4 192.0.2.1"},
	} {
		sessions, refused := plan.Sessions(snapshot, plan.Site{
			Node: node, Labels: map[string]string{"zone": node},
			Addresses: []netip.Addr{netip.MustParseAddr("fd00::99"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.0")},
		})
		if len(refused) > 0 {
			t.Errorf("%s: refused %v", node, refused)
		}
		if diff := cmp.Diff(want, describe(sessions)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", node, diff)
		}
	}
}

func describe(sessions []desired.Session) (all []string) {
	for _, s := range sessions {
		text := s.Name + " "
		if s.IPv4 {
			text += "4"
		}
		if s.IPv6 {
			text += "6"
		}
		all = append(all, text+" "+s.ID.String())
	}
	return all
}

func TestRouterIDOfANodeWithoutIPv4(t *testing.T) {
	snapshot := compiled(t, peerYAML("tor", `peerASN: 64513, peerAddress: "fd00::1"`))
	for node, want := range map[string]string{
		"node-a":   "171.77.153.120",
		"worker-1": "160.112.56.60",
		"":         "1.0.0.0", // the checksum of nothing is 0, which is no identifier
	} {
		sessions, _ := plan.Sessions(snapshot, plan.Site{Node: node, Addresses: []netip.Addr{netip.MustParseAddr("fd00::99")}})
		if got := sessions[0].ID.String(); got != want {
			t.Errorf("%q: router ID %s, want %s", node, got, want)
		}
	}
}

func TestKeysOfSessions(t *testing.T) {
	snapshot := compiled(t, peerYAML("a-secret", `peerASN: 64513, peerAddress: 172.16.0.1, passwordSecret: {name: tor}`)+
		peerYAML("b-password", `peerASN: 64513, peerAddress: 172.16.0.2, password: plain`)+
		peerYAML("c-open", `peerASN: 64513, peerAddress: 172.16.0.3`))
	basic := "kubernetes.io/basic-auth"
	for name, c := range map[string]struct {
		secrets plan.Secrets
		want    []string
		refused []desired.Refusal
	}{
		"a key": {
			plan.Secrets{"tor": plan.ReadSecret(basic, map[string][]byte{"password": []byte("s3cret"), "username": nil})},
			[]string{"a-secret=s3cret", "b-password=plain", "c-open="}, nil,
		},
		"no Secret": {
			nil, []string{"b-password=plain", "c-open="},
			[]desired.Refusal{{Peer: "a-secret", Reason: reason.SecretMissing, Message: "Secret tor does not exist."}},
		},
		"a Secret of another type": {
			plan.Secrets{"tor": plan.ReadSecret("Opaque", map[string][]byte{"password": []byte("s3cret")})},
			[]string{"b-password=plain", "c-open="},
			[]desired.Refusal{{Peer: "a-secret", Reason: reason.SecretInvalid, Message: `Secret tor: it is of type "Opaque": expected kubernetes.io/basic-auth.`}},
		},
		"a Secret without password": {
			plan.Secrets{"tor": plan.ReadSecret(basic, map[string][]byte{"username": []byte("s3cret")})},
			[]string{"b-password=plain", "c-open="},
			[]desired.Refusal{{Peer: "a-secret", Reason: reason.SecretInvalid, Message: `Secret tor: it has no key "password".`}},
		},
		"an empty password": {
			plan.Secrets{"tor": plan.ReadSecret(basic, map[string][]byte{"password": nil})},
			[]string{"b-password=plain", "c-open="},
			[]desired.Refusal{{Peer: "a-secret", Reason: reason.SecretInvalid, Message: `Secret tor: its key "password" is empty.`}},
		},
		"a password that TCP cannot take": {
			plan.Secrets{"tor": plan.ReadSecret(basic, map[string][]byte{"password": make([]byte, 81)})},
			[]string{"b-password=plain", "c-open="},
			[]desired.Refusal{{Peer: "a-secret", Reason: reason.SecretInvalid, Message: "Secret tor holds a key of 81 bytes: expected at most 80."}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sessions, refused := plan.Sessions(snapshot, plan.Site{Node: "east", Secrets: c.secrets})
			var got []string
			for _, s := range sessions {
				got = append(got, s.Name+"="+s.Key)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.refused, refused); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			for _, r := range refused {
				if strings.Contains(r.Message, "s3cret") {
					t.Errorf("a message holds the secret: %s", r.Message)
				}
			}
		})
	}
}

func TestNoSessionsBeforeTheConfiguration(t *testing.T) {
	if sessions, refused := plan.Sessions(nil, plan.Site{Node: "east"}); sessions != nil || refused != nil {
		t.Errorf("sessions %v, refused %v; want none", sessions, refused)
	}
}

const profiles = `
kind: BFDProfile
metadata: {name: slow}
spec: {receiveInterval: 400, transmitInterval: 300, detectMultiplier: 3, minimumTtl: 250}
---
kind: BFDProfile
metadata: {name: fast}
spec: {receiveInterval: 100, transmitInterval: 500, detectMultiplier: 5, echoMode: true, echoInterval: 60, passiveMode: true}
---
kind: BFDProfile
metadata: {name: signed}
spec: {authentication: {type: MeticulousKeyedSHA1, keyID: 7, secret: {name: bfd}}}
`

// links are two plain interfaces and one in a VRF.
var links = observed.Links{
	{Index: 2, Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/24"), netip.MustParsePrefix("fd00::/64")}},
	{Index: 3, Name: "red", Kind: "vrf"},
	{Index: 4, Name: "eth1", Master: 3, MasterKind: "vrf", Prefixes: []netip.Prefix{netip.MustParsePrefix("172.20.0.0/24")}},
}

// bfdText writes a BFD session on one line.
func bfdText(k observed.BFDPeer, p desired.BFDParameters) string {
	text := k.Remote.String()
	for _, part := range []string{k.Interface, k.VRF} {
		if part != "" {
			text += "%" + part
		}
	}
	if k.Local.IsValid() {
		text += " from " + k.Local.String()
	}
	if k.Multihop {
		text += " multihop"
	}
	text += fmt.Sprintf(" tx %s rx %s x%d ttl %d", p.TransmitInterval, p.ReceiveInterval, p.DetectMultiplier, p.MinimumTTL)
	if p.Echo || p.EchoInterval != 0 {
		text += fmt.Sprintf(" echo %t %s", p.Echo, p.EchoInterval)
	}
	if p.Passive {
		text += " passive"
	}
	if p.Auth != (desired.BFDAuth{}) {
		text += fmt.Sprintf(" key %d=%s meticulous %t", p.Auth.KeyID, p.Auth.Key, p.Auth.Meticulous)
	}
	return text
}

func TestBFDSessions(t *testing.T) {
	key := plan.Secrets{"bfd": {Key: "k"}}
	on := func(peer, remote string, state observed.SessionState) observed.Session {
		met := state == observed.Established || state == observed.HeldDown
		return observed.Session{Peer: peer, Remote: netip.MustParseAddr(remote), State: state, Watch: met}
	}
	for name, c := range map[string]struct {
		peers   string
		secrets plan.Secrets
		reached observed.BGP
		want    []string
		notes   []desired.Refusal
	}{
		"a peer before its session": {
			peers:   peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: slow`),
			reached: observed.BGP{on("tor", "172.16.0.1", observed.OpenSent), on("other", "172.16.0.1", observed.Established)},
		},
		"a peer without a profile": {peers: peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1`)},
		"an eBGP peer, directly connected": {
			peers: peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: slow`),
			want:  []string{"172.16.0.1 tx 300ms rx 400ms x3 ttl 255"},
		},
		"an eBGP peer elsewhere that says nothing of hops": {
			peers: peerYAML("tor", `peerASN: 64513, peerAddress: 10.9.9.9, bfdProfile: slow`),
			want:  []string{"10.9.9.9 tx 300ms rx 400ms x3 ttl 255"},
		},
		"an eBGP peer over several hops, which have no echo": {
			peers: peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1, ebgpMultiHop: true, bfdProfile: slow`),
			want:  []string{"172.16.0.1 multihop tx 300ms rx 400ms x3 ttl 250"},
		},
		"an iBGP peer on a link": {
			peers: peerYAML("tor", `peerASN: 64512, peerAddress: "fd00::1", bfdProfile: fast`),
			want:  []string{"fd00::1 tx 500ms rx 100ms x5 ttl 255 echo true 60ms passive"},
		},
		"an iBGP peer behind a router": {
			peers: peerYAML("tor", `peerASN: 64512, peerAddress: 10.9.9.9, sourceAddress: 172.16.0.5, bfdProfile: slow`),
			want:  []string{"10.9.9.9 from 172.16.0.5 multihop tx 300ms rx 400ms x3 ttl 250"},
		},
		"an iBGP peer by dynamicASN": {
			peers: peerYAML("tor", `dynamicASN: internal, peerAddress: 10.9.9.9, bfdProfile: slow`),
			want:  []string{"10.9.9.9 multihop tx 300ms rx 400ms x3 ttl 250"},
		},
		"an iBGP peer on a link of its VRF": {
			peers: peerYAML("tor", `peerASN: 64512, peerAddress: 172.20.0.1, vrf: red, bfdProfile: slow`),
			want:  []string{"172.20.0.1%red tx 300ms rx 400ms x3 ttl 255"},
		},
		"an iBGP peer on a link that its VRF does not have": {
			peers: peerYAML("tor", `peerASN: 64512, peerAddress: 172.16.0.1, vrf: red, bfdProfile: slow`),
			want:  []string{"172.16.0.1%red multihop tx 300ms rx 400ms x3 ttl 250"},
		},
		"an unnumbered peer before its session": {
			peers: peerYAML("tor", `peerASN: 64513, interface: eth0, bfdProfile: slow`),
			reached: observed.BGP{
				on("tor", "fe80::1%eth0", observed.OpenSent), on("other", "fe80::2%eth0", observed.Established),
				{Peer: "tor", State: observed.Established, Watch: true},
			},
		},
		"an unnumbered peer": {
			peers:   peerYAML("tor", `peerASN: 64513, interface: eth0, bfdProfile: slow`),
			reached: observed.BGP{on("tor", "fe80::1%eth0", observed.Established)},
			want:    []string{"fe80::1%eth0 tx 300ms rx 400ms x3 ttl 255"},
		},
		"an unnumbered peer that BFD holds down is watched on": {
			peers:   peerYAML("tor", `peerASN: 64513, interface: eth0, bfdProfile: slow`),
			reached: observed.BGP{on("tor", "fe80::1%eth0", observed.HeldDown)},
			want:    []string{"fe80::1%eth0 tx 300ms rx 400ms x3 ttl 255"},
		},
		"dynamic neighbours, each by itself": {
			peers:   peerYAML("tor", `dynamicASN: internal, peerPrefix: 172.16.0.0/12, bfdProfile: slow`),
			reached: observed.BGP{on("tor", "172.18.0.2", observed.Established), on("tor", "172.16.0.2", observed.Established), on("tor", "172.16.0.3", observed.Active)},
			want:    []string{"172.16.0.2 tx 300ms rx 400ms x3 ttl 255", "172.18.0.2 multihop tx 300ms rx 400ms x3 ttl 250"},
		},
		"one BFD session for two peers": {
			peers: peerYAML("a", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: slow`) +
				peerYAML("b", `peerASN: 64513, peerAddress: 172.16.0.1, peerPort: 1179, bfdProfile: slow`),
			want: []string{"172.16.0.1 tx 300ms rx 400ms x3 ttl 255"},
		},
		"one BFD session for two peers that disagree": {
			peers: peerYAML("a", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: slow`) +
				peerYAML("b", `peerASN: 64513, peerAddress: 172.16.0.1, peerPort: 1179, bfdProfile: fast`),
			want: []string{"172.16.0.1 tx 300ms rx 100ms x3 ttl 255 echo true 60ms"},
			notes: []desired.Refusal{{
				Peer: "b", Reason: reason.BFDProfilesDiffer,
				Message: "BGPPeers a and b share the BFD session with 172.16.0.1 and ask for different parameters; of each the faster one applies, and the authentication of a.",
			}},
		},
		"authentication": {
			peers: peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: signed`), secrets: key,
			want: []string{"172.16.0.1 tx 300ms rx 300ms x3 ttl 255 key 7=k meticulous true"},
		},
		"authentication without its Secret": {
			peers: peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: signed`) + peerYAML("z", `peerASN: 64513, peerAddress: 172.16.0.2, bfdProfile: slow`),
			want:  []string{"172.16.0.2 tx 300ms rx 400ms x3 ttl 255"},
			notes: []desired.Refusal{{
				Peer: "tor", Reason: reason.SecretMissing,
				Message: "Secret bfd does not exist. BFDProfile signed cannot be used without it, so the session runs without BFD.",
			}},
		},
		"authentication with a key that is too long": {
			peers: peerYAML("tor", `peerASN: 64513, peerAddress: 172.16.0.1, bfdProfile: signed`), secrets: plan.Secrets{"bfd": {Key: strings.Repeat("k", 21)}},
			notes: []desired.Refusal{{
				Peer: "tor", Reason: reason.SecretInvalid,
				Message: "Secret bfd holds a key of 21 bytes: expected at most 20. BFDProfile signed cannot be used without it, so the session runs without BFD.",
			}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			sessions, _ := plan.Sessions(compiled(t, profiles+c.peers), plan.Site{Node: "east", Secrets: c.secrets})
			if c.reached == nil {
				for _, s := range sessions {
					c.reached = append(c.reached, observed.Session{Peer: s.Name, Remote: s.Address, State: observed.Established, Watch: true})
				}
			}
			got, notes := plan.BFDSessions(sessions, c.reached, links, c.secrets)
			var texts []string
			for k, p := range got {
				texts = append(texts, bfdText(k, p))
			}
			slices.Sort(texts)
			if diff := cmp.Diff(c.want, texts); diff != "" {
				t.Errorf("sessions (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.notes, notes); diff != "" {
				t.Errorf("notes (-want +got):\n%s", diff)
			}
		})
	}
}
