//go:build netns

package gobgp

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// GoBGP as a peer takes the routes whoever dials, with and without a password,
// and over IPv6 with IPv6 next hops for IPv4.
func TestNetnsGoBGPSessionKinds(t *testing.T) {
	kinds := []struct {
		name   string
		peer   func(n int, s *desired.Session)
		there  goNeighbor // as on the first link
		v4, v6 string     // next hops, as on the first link
	}{
		{name: "we dial", there: goNeighbor{Address: "10.0.1.2", Passive: true}},
		// Port 179 is open for the passive peers, so GoBGP's calls are taken.
		{name: "both dial", there: goNeighbor{Address: "10.0.1.2"}},
		{name: "GoBGP dials", peer: func(_ int, s *desired.Session) { s.Passive = true }, there: goNeighbor{Address: "10.0.1.2"}},
		{name: "password", peer: func(_ int, s *desired.Session) { s.Key = "secret" },
			there: goNeighbor{Address: "10.0.1.2", Password: "secret", Passive: true}},
		{name: "password and GoBGP dials", peer: func(_ int, s *desired.Session) { s.Passive, s.Key = true, "secret" },
			there: goNeighbor{Address: "10.0.1.2", Password: "secret"}},
		{name: "over IPv6", peer: func(n int, s *desired.Session) { s.Address = addr(n, "fd00:1::1") },
			there: goNeighbor{Address: "fd00:1::2", Passive: true}, v4: "fd00:1::2"},
		{name: "over IPv6 and GoBGP dials", peer: func(n int, s *desired.Session) { s.Address, s.Passive = addr(n, "fd00:1::1"), true },
			there: goNeighbor{Address: "fd00:1::2"}, v4: "fd00:1::2"},
	}
	ns := links(t, len(kinds))
	there := goConfig{ID: "10.255.0.1"}
	r, _ := start(t)
	var sessions []desired.Session
	want := make(map[netip.Prefix]netip.Addr)
	for i, k := range kinds {
		n := i + 1
		s := peer(n, func(s *desired.Session) {
			if k.peer != nil {
				k.peer(n, s)
			}
		})
		if k.v4 == "" {
			k.v4 = "10.0.1.2"
		}
		own := []string{fmt.Sprintf("192.0.2.%d/32", n), fmt.Sprintf("2001:db8::%x/128", n)}
		want[netip.MustParsePrefix(own[0])], want[netip.MustParsePrefix(own[1])] = addr(n, k.v4), addr(n, "fd00:1::2")
		tell(r, s.Name, routes(desired.Attributes{}, own...))
		k.there.Address = at(n, k.there.Address)
		sessions, there.Neighbors = append(sessions, s), append(there.Neighbors, k.there)
	}
	r.SetSessions(sessions, nil)
	peer := startGoBGP(t, ns, there)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("GoBGP says:\n%s\n%s", peer.process.Output(), peer.process.Errors())
		}
	})
	var untouched []func()
	for _, s := range sessions {
		untouched = append(untouched, steady(t, r, s.Name))
	}
	got := peer.awaitRoutes(t, len(want))
	for p, hop := range want {
		if got[p] != hop {
			t.Errorf("%s goes via %s, want %s", p, got[p], hop)
		}
	}
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) { untouched[i]() })
	}
	r.SetSessions(nil, nil)
	peer.awaitRoutes(t, 0)
}

// GoBGP keeps the routes over our restart, whether we ended in order or were
// killed, and forgets none of them afterwards.
func TestNetnsGoBGPKeepsRoutesOverRestart(t *testing.T) {
	ns := links(t, 2)
	there := startGoBGP(t, ns, goConfig{ID: "10.255.0.1", Neighbors: []goNeighbor{
		{Address: "10.0.1.2", Passive: true, GracefulRestart: true}, {Address: "10.0.2.2", GracefulRestart: true},
	}})
	passive := func(s *desired.Session) { s.Passive = s.Name == "tor2" }
	restarting := func(s *desired.Session) { s.GracefulRestart = true }
	live := func() (*Room, func()) {
		r, stop := start(t)
		tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "2001:db8::1/128"))
		tell(r, "tor2", routes(desired.Attributes{}, "192.0.2.2/32", "2001:db8::2/128"))
		r.SetSessions([]desired.Session{peer(1, restarting), peer(2, restarting, passive)}, nil)
		for _, name := range []string{"tor1", "tor2"} {
			if s := awaitUp(t, r, name); !s.GracefulRestart {
				t.Errorf("graceful restart is not agreed: %+v", s)
			}
		}
		return r, stop
	}
	r, stop := live()
	there.awaitRoutes(t, 4)
	for _, orderly := range []bool{true, false} {
		if orderly {
			r.Shutdown(context.Background(), true)
		}
		stop()
		r, stop = live()
	}
	// A route that is new comes after all that GoBGP had to sort out.
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.3/32"))
	tell(r, "tor2", routes(desired.Attributes{}, "192.0.2.4/32"))
	there.awaitRoutes(t, 6)
	for _, line := range there.said() {
		if len(line) > 4 && line[:4] == "lost" {
			t.Errorf("GoBGP says %q", line)
		}
	}
	if s := session1(t, r, "tor1"); s.State != observed.Established {
		t.Errorf("the session is %+v", s)
	}
}
