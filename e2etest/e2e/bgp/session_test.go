//go:build lab

package bgp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab"
)

// What a BGPPeer says of the session is what the router sees, and what both have
// agreed on stands in the BGPSessionStatus.
func TestSessionParameters(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500", "timers 5 20")
	peer := p.peer("v4", false, ebgp+", holdTime: 12s, keepaliveTime: 3s, routerID: 10.1.1.1, "+on("node1"))
	n := p.neighbor("node1", false, nil)
	if n.RouterID != "10.1.1.1" || n.Hold != 12*time.Second || n.Keepalive != 4*time.Second {
		t.Errorf("the router sees ID %s, hold time %s, keepalive %s; want 10.1.1.1, 12s and a third of it", n.RouterID, n.Hold, n.Keepalive)
	}
	st := s.WaitSession(peer, "node1", nil)
	if st.HoldTimeSeconds != 12 || st.KeepaliveTimeSeconds != 3 || st.RemoteASN != 64601 || st.RemoteRouterID != "10.255.0.2" ||
		st.LocalAddress != p.node("node1", false).String() || st.PeerAddress != p.of(0, false).String() {
		t.Errorf("the BGPSessionStatus says %+v", st)
	}
	// Other timers take effect at once, by a session that begins anew.
	p.peer("v4", false, ebgp+", holdTime: 9s, keepaliveTime: 2s, routerID: 10.1.1.2, "+on("node1"))
	p.neighbor("node1", false, func(n lab.BGPNeighbor) error {
		if !n.Up() || n.RouterID != "10.1.1.2" || n.Hold != 9*time.Second {
			return fmt.Errorf("it is %s, ID %s, hold time %s", n.State, n.RouterID, n.Hold)
		}
		return nil
	})
	s.WaitSession(peer, "node1", func(st harness.BGPSession) error {
		if st.HoldTimeSeconds != 9 || st.KeepaliveTimeSeconds != 2 {
			return fmt.Errorf("it says %+v", st)
		}
		return nil
	})
}

// sourceAddress is the one that the router sees; the routes follow it.
func TestSourceAddress(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500")
	var peers []string
	for _, n := range []string{"node1", "node3"} {
		peers = append(peers, s.Peer(n, fmt.Sprintf("%s, peerAddress: 192.168.201.1, sourceAddress: %s, %s", ebgp, p.node(n, false), on(n))))
	}
	s.advertiseTo("a", "", peers...)
	s.web("web", harness.V4)
	a := s.WaitAddress("web")
	p.path("node1", host(a), nil)
	s.routed([]netip.Addr{a}, "node1", "node3")
	if st := s.WaitSession(peers[0], "node1", nil); st.LocalAddress != p.node("node1", false).String() {
		t.Errorf("the BGPSessionStatus has the local address %s, want %s", st.LocalAddress, p.node("node1", false))
	}
}

// With ttlSecurity on both sides the session is up; a router that demands it lets
// nobody in without.
func TestTTLSecurity(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500")
	for _, v6 := range []bool{false, true} {
		// FRR enforces it for neighbours that are written down.
		n, family := p.node("node1", v6).String(), map[bool]string{false: "ipv4", true: "ipv6"}[v6]
		s.OnEnd("remove the neighbour "+n, func(ctx context.Context) error { return s.onTor(ctx, "no neighbor "+n) })
		s.Must(s.onTor(s.Ctx, "neighbor "+n+" remote-as 64500", "neighbor "+n+" passive", "neighbor "+n+" ttl-security hops 1",
			"address-family "+family+" unicast", "neighbor "+n+" activate"))
	}
	without := p.peer("v4", false, ebgp+", connectTime: 1s, "+on("node1"))
	with := p.peer("v6", true, ebgp+", connectTime: 1s, ttlSecurity: true, "+on("node1"))
	s.WaitSession(with, "node1", nil)
	s.WaitSession(without, "node1", func(st harness.BGPSession) error {
		if st.State == "Established" {
			return errors.New("it is established")
		}
		return nil
	})
}

// localASN is the only one that the router sees.
func TestLocalASN(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "4200000001")
	v4 := p.peer("v4", false, ebgp+", localASN: 4200000001")
	s.advertiseTo("a", "", v4)
	s.web("web", harness.V4)
	a := s.WaitAddress("web")
	p.path("node1", host(a), exactly("as-path 4200000001"))
	p.routed([]netip.Addr{a}, s.Nodes()...)
}

// dynamicASN takes the router as it is, if it is of the kind asked for; if not,
// the object says so, and nobody else suffers.
func TestDynamicASN(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	outside, inside := s.plane(0, "64500"), s.plane(1, "64601")
	right := outside.peer("external", false, "myASN: 64500, dynamicASN: external")
	internal := inside.peer("internal", false, "myASN: 64601, dynamicASN: internal")
	wrong := s.plane(2, "64500").peer("wrong", false, "myASN: 64500, dynamicASN: internal")
	s.WaitSessions(right, s.Nodes()...)
	s.WaitSessions(internal, s.Nodes()...)
	s.WaitSession(wrong, "node1", because("PeerASNDiffers", "64601"))
	s.advertiseTo("a", "", right, internal, wrong)
	s.web("web", harness.V4)
	a := s.WaitAddress("web")
	outside.path("node2", host(a), exactly("as-path 64500"))
	inside.path("node2", host(a), exactly("local-pref 100"))
	check()
}

// Each node may have an AS of its own: one BGPPeer for each, for one router.
func TestAnotherASForEachNode(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "external")
	var peers []string
	for i, n := range s.Nodes() {
		peers = append(peers, p.peer(n, false, fmt.Sprintf("myASN: %d, peerASN: 64601, %s", 65001+i, on(n))))
	}
	s.advertiseTo("a", "", peers...)
	s.web("web", harness.V4)
	a := s.WaitAddress("web")
	for i, n := range s.Nodes() {
		p.path(n, host(a), exactly(fmt.Sprintf("as-path %d", 65001+i)))
	}
	s.routed([]netip.Addr{a}, s.Nodes()...)
}

// secret applies a Secret with a password, in Herald's namespace.
func (s *stage) secret(suffix, kind, password string) string {
	s.Helper()
	name := s.Namespace + "-" + suffix
	s.Apply(fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: %s}\ntype: %s\nstringData: {username: \"\", password: %q}\n",
		name, herald.Namespace, kind, password))
	return name
}

const basicAuth = "kubernetes.io/basic-auth"

// A password comes from a Secret, and rotates without a touch on any other session.
func TestPasswordRotates(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	p := s.planeAt(201, "64500", "password before")
	key := s.secret("key", basicAuth, "before")
	v4, v6 := p.peer("v4", false, ebgp+", passwordSecret: {name: "+key+"}"), p.peer("v6", true, ebgp+", password: before")
	s.WaitSessions(v4, s.Nodes()...)
	s.WaitSessions(v6, s.Nodes()...)
	s.advertiseTo("a", "", v4, v6)
	s.web("web")
	s.addrs = s.WaitAddresses("web", 2)
	s.routed(s.addrs, s.Nodes()...)

	p.router("password after")
	s.secret("key", basicAuth, "after")
	p.peer("v6", true, ebgp+", password: after")
	// The router has lost the sessions with the old key, or soon will have; what
	// counts is that those with the new one carry the routes.
	s.Must(s.onTor(s.Ctx, "do clear bgp "+p.group))
	for _, n := range s.Nodes() {
		p.neighbor(n, false, nil)
		p.neighbor(n, true, nil)
	}
	s.WaitSessions(v4, s.Nodes()...)
	s.WaitSessions(v6, s.Nodes()...)
	s.routed(s.addrs, s.Nodes()...)
	check()
}

// A wrong password, a Secret that is missing and one of another kind: each harms
// its own peer only and is said in words, and each is over when it is mended.
func TestPasswordTrouble(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	p := s.planeAt(210, "64500", "password right")
	spec := func(secret string) string {
		return ebgp + ", connectTime: 1s, passwordSecret: {name: " + secret + "}, " + on("node1")
	}
	wrong := s.secret("wrong", basicAuth, "left")
	missing := s.Namespace + "-missing"
	other := s.secret("other", "Opaque", "right")
	peers := map[string]string{}
	for i, secret := range []string{wrong, missing, other} {
		q := p
		if i > 0 {
			q = s.planeAt(byte(210+i), "64500", "password right")
		}
		peers[secret] = q.peer(fmt.Sprint(i), false, spec(secret))
	}
	s.WaitSession(peers[wrong], "node1", because("PeerSilent", ""))
	s.WaitSession(peers[missing], "node1", because("SecretMissing", missing))
	s.WaitSession(peers[other], "node1", because("SecretInvalid", other))
	s.saysConfiguration("node1", missing)

	s.secret("missing", basicAuth, "right")
	s.secret("wrong", basicAuth, "right")
	s.WaitSession(peers[missing], "node1", nil)
	s.WaitSession(peers[wrong], "node1", nil)
	check()
}

// The router's own words are in the BGPSessionStatus, and in an event on the
// BGPPeer, and the session comes back.
func TestRouterSaysWhy(t *testing.T) {
	t.Parallel()
	s := open(t)
	p := s.plane(0, "64500")
	peer := p.peer("v4", false, ebgp+", "+on("node1"))
	s.WaitSession(peer, "node1", nil)
	const words = "cables are changed tonight"
	p.router("shutdown message " + words)
	down := func(st harness.BGPSession) error {
		if st.State == "Established" || st.LastDown == nil || st.LastDown.Reason != "PeerNotification" || !strings.Contains(st.LastDown.Message, words) {
			return fmt.Errorf("it says %+v, want the router's words %q as the reason of the last end", st, words)
		}
		return nil
	}
	s.WaitSession(peer, "node1", down)
	s.warned("BGPPeer", peer, words)
	p.router("no shutdown")
	s.WaitSession(peer, "node1", nil)
}

// warned waits for an event of the type Warning with some words on an object of
// Herald's namespace.
func (s *stage) warned(kind, name, words string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		events, err := s.EventsOf(herald.Namespace, kind, name)
		for _, e := range events {
			if e.Type == "Warning" && strings.Contains(e.Note, words) {
				return nil
			}
		}
		return fmt.Errorf("the events on %s %s are %+v, want a Warning with %q: %w", kind, name, events, words, err)
	})
}

// Peers, pools, profiles, advertisements and Services come and change one by one:
// the sessions that are not meant stay as they were.
func TestConfigurationChangesKeepSessions(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	profile := s.BFDProfile("slow", "receiveInterval: 500, transmitInterval: 500")
	v4, v6 := s.plane(0, "64500", "bfd"), s.plane(1, "64500")
	first := v4.peer("one", false, ebgp)
	s.WaitSessions(first, s.Nodes()...)
	s.advertiseTo("a", "", first)
	s.web("web")
	addrs := s.WaitAddresses("web", 2)
	s.routed(addrs[:1], s.Nodes()...)
	second := v6.peer("two", true, ebgp+", bfdProfile: "+profile)
	s.advertiseTo("a", "", first, second)
	s.routed(addrs, s.Nodes()...)
	// Only the second peer's session may be lost from here on.
	ups := v4.neighbor("node1", false, nil).Ups
	s.BFDProfile("slow", "receiveInterval: 600, transmitInterval: 600")
	v6.peer("two", true, ebgp+", holdTime: 30s")
	v6.neighbor("node1", true, func(n lab.BGPNeighbor) error {
		if !n.Up() || n.Hold != 30*time.Second {
			return fmt.Errorf("it is %s with the hold time %s", n.State, n.Hold)
		}
		return nil
	})
	s.Delete(harness.BGPPeers, second)
	s.routed(addrs[1:])
	v4.peer("one", false, ebgp+", connectTime: 7s, "+on("node1", "node2"))
	s.routed(addrs[:1], "node1", "node2")
	if n := v4.neighbor("node1", false, nil); n.Ups != ups || n.Downs != 0 {
		t.Errorf("the session with the first peer was up %d times and lost %d times, want %d and 0: %s", n.Ups, n.Downs, ups, n.LastReset)
	}
	check()
}
