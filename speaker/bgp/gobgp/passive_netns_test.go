//go:build netns

package gobgp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// dynamicPeer takes neighbours from a prefix.
func dynamicPeer(prefix string, adjust ...func(*desired.Session)) desired.Session {
	return peer(1, append([]func(*desired.Session){func(s *desired.Session) {
		s.Name, s.Address, s.Passive, s.Prefix = "racks", netip.Addr{}, true, netip.MustParsePrefix(prefix)
		s.PeerASN, s.Dynamic = 0, config.ExternalASN
	}}, adjust...)...)
}

// Routers that dial from the prefix become neighbours, each with a session of its
// own; one with another password does not.
func TestNetnsDynamicNeighbours(t *testing.T) {
	one, two, three := link(t, 1), link(t, 2), link(t, 3)
	r, _ := start(t)
	tell(r, "racks", routes(desired.Attributes{}, "192.0.2.1/32"))
	r.SetSessions([]desired.Session{dynamicPeer("10.0.0.0/14", func(s *desired.Session) { s.Key = "secret" })}, nil)
	tor1 := frr(t, one, 1, "neighbor 10.0.1.2 password secret")
	tor2 := frr(t, two, 2, "neighbor 10.0.2.2 password secret")
	frr(t, three, 3, "neighbor 10.0.3.2 password other")
	awaitRoutes(t, tor1, "192.0.2.1/32")
	awaitRoutes(t, tor2, "192.0.2.1/32")
	var up []string
	for _, s := range r.Observed() {
		if s.State == observed.Established {
			if !s.Dynamic || s.Peer != "racks" {
				t.Errorf("not a dynamic neighbour of racks: %+v", s)
			}
			up = append(up, s.Remote.String())
		}
	}
	if got := strings.Join(up, " "); got != "10.0.1.1 10.0.2.1" {
		t.Errorf("neighbours %q, want 10.0.1.1 10.0.2.1", got)
	}
	// Routes reach those who are there, and a neighbour that leaves is forgotten.
	tell(r, "racks", routes(desired.Attributes{}, "192.0.2.2/32"))
	awaitRoutes(t, tor1, "192.0.2.1/32", "192.0.2.2/32")
	tor2.Kill(t, "bgpd")
	netns.Wait(t, 10*time.Second, "the second neighbour to be forgotten", func() bool { return len(r.Observed()) == 2 })
	r.SetSessions(nil, nil)
	awaitRoutes(t, tor1)
}

// Nobody listens on the BGP port unless a passive peer is configured.
func TestNetnsListensOnlyForPassivePeers(t *testing.T) {
	link(t, 1)
	r, _ := start(t)
	listening := func() string {
		return netns.Self(t).Run(t, "ss", "-Hltn")
	}
	r.SetSessions([]desired.Session{peer(1)}, nil)
	await(t, r, "tor1", "to have tried", func(s observed.Session) bool { return s.Reason == reason.PeerRefuses })
	netns.Wait(t, 10*time.Second, "the library's socket to close", func() bool { return listening() == "" })
	r.SetSessions([]desired.Session{peer(1, func(s *desired.Session) { s.Passive = true })}, nil)
	netns.Wait(t, 10*time.Second, "port 179", func() bool { return strings.Contains(listening(), "0.0.0.0:179") })
	r.SetSessions([]desired.Session{peer(1)}, nil)
	netns.Wait(t, 10*time.Second, "no port 179", func() bool { return !strings.Contains(listening(), ":179") })
}

// Another BGP daemon of the node owns the port: passive peers say so, all others
// do not care, and the port is taken when it is free.
func TestNetnsPortTaken(t *testing.T) {
	ns := link(t, 1)
	other, err := net.Listen("tcp4", "0.0.0.0:179")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r, _ := start(t)
	tor := frr(t, ns, 1, "")
	passive := peer(2, func(s *desired.Session) { s.Passive = true })
	r.SetSessions([]desired.Session{peer(1), passive}, nil)
	awaitUp(t, r, "tor1")
	s := await(t, r, "tor2", "to be blocked", func(s observed.Session) bool { return s.State == observed.Blocked })
	if s.Reason != reason.PortTaken {
		t.Errorf("the reason is %s (%s), want PortTaken", s.Reason, s.Message)
	}
	_ = other.Close()
	await(t, r, "tor2", "to wait", func(s observed.Session) bool { return s.Reason == reason.PeerAwaited })
	_ = tor
}

// A stranger who connects gets nothing.
func TestNetnsStrangersAreClosed(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	r.SetSessions([]desired.Session{peer(2, func(s *desired.Session) { s.Passive = true })}, nil)
	netns.Wait(t, 10*time.Second, "port 179", func() bool {
		return strings.Contains(netns.Self(t).Run(t, "ss", "-Hltn"), ":179")
	})
	ns.Do(t, func() error {
		conn, err := net.Dial("tcp", "10.0.1.2:179")
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err := conn.Read(make([]byte, 1)); n > 0 || isTimeout(err) {
			return fmt.Errorf("a stranger read %d octets, error %v", n, err)
		}
		return nil
	})
}
