//go:build netns

package gobgp

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// The node of every test is 10.0.N.2 and fd00:N::2 towards its Nth router,
// 10.0.N.1 and fd00:N::1.

// link connects the node to a new namespace for the Nth router.
func link(t *testing.T, n int) *netns.NS {
	t.Helper()
	ns := netns.New(t)
	linkTo(t, n, ns, "eth0")
	ns.Sysctl(t, "ipv4/ip_forward", "1")
	ns.Sysctl(t, "ipv6/conf/all/forwarding", "1")
	return ns
}

// links connects the node to one router by count links, which count as routers
// 1 to count. The router's interfaces are eth1 and so on.
func links(t *testing.T, count int) *netns.NS {
	t.Helper()
	ns := netns.New(t)
	for n := 1; n <= count; n++ {
		linkTo(t, n, ns, fmt.Sprintf("eth%d", n))
	}
	return ns
}

// linkTo connects the node to a namespace by its Nth link.
func linkTo(t *testing.T, n int, ns *netns.NS, there string) {
	t.Helper()
	node := netns.Self(t)
	node.IP(t, "link set lo up")
	name := fmt.Sprintf("rtr%d", n)
	netns.Veth(t, node, name, ns, there)
	for _, side := range []struct {
		ns   *netns.NS
		name string
		host int
	}{{node, name, 2}, {ns, there, 1}} {
		side.ns.IP(t, fmt.Sprintf("addr add 10.0.%d.%d/24 dev %s", n, side.host, side.name))
		side.ns.IP(t, fmt.Sprintf("-6 addr add fd00:%d::%d/64 dev %s nodad", n, side.host, side.name))
	}
}

// addr is an address of the Nth link, given that of the first.
func addr(n int, first string) netip.Addr { return netip.MustParseAddr(at(n, first)) }

// at is a text about the first link, told of the Nth.
func at(n int, text string) string {
	return strings.NewReplacer("10.0.1.", fmt.Sprintf("10.0.%d.", n), "fd00:1:", fmt.Sprintf("fd00:%d:", n)).Replace(text)
}

// lockedLog collects a room's log for a failing test.
type lockedLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs a room until the test ends, or the returned function is called.
func start(t *testing.T, adjust ...func(*Config)) (*Room, func()) {
	t.Helper()
	log := &lockedLog{}
	cfg := Config{Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})), Drain: -1}
	for _, f := range adjust {
		f(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run does not return")
		}
		if t.Failed() {
			t.Logf("log of the room:\n%s", log.String())
		}
	})
	t.Cleanup(stop)
	return r, stop
}

// peer is a session of the node, AS 64512, with the Nth router, AS 64999.
func peer(n int, adjust ...func(*desired.Session)) desired.Session {
	s := desired.Session{
		Peer: &config.Peer{
			Name: fmt.Sprintf("tor%d", n), MyASN: 64512, PeerASN: 64999,
			Address: netip.MustParseAddr(fmt.Sprintf("10.0.%d.1", n)), Port: 179,
			ConnectTime: ptr(time.Second),
		},
		IPv4: true, IPv6: true, ID: netip.MustParseAddr("10.255.0.2"),
	}
	for _, f := range adjust {
		f(&s)
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// routes are prefixes with the same attributes.
func routes(a desired.Attributes, prefixes ...string) desired.Routes {
	r := make(desired.Routes)
	for _, p := range prefixes {
		r[netip.MustParsePrefix(p)] = &a
	}
	return r
}

// tell announces routes to a peer.
func tell(r *Room, peer string, routes desired.Routes) {
	r.Apply(desired.BGPChange{peer: {Announce: routes}})
}

// session is what the room says of a peer.
func session1(t *testing.T, r *Room, peer string) observed.Session {
	t.Helper()
	all := r.Observed()
	i := slices.IndexFunc(all, func(s observed.Session) bool { return s.Peer == peer })
	if i < 0 {
		t.Fatalf("the room knows nothing of %s: %+v", peer, all)
	}
	return all[i]
}

// awaitUp waits until a session is established.
func awaitUp(t *testing.T, r *Room, peer string) observed.Session {
	t.Helper()
	return await(t, r, peer, "to be established", func(s observed.Session) bool { return s.State == observed.Established })
}

// await waits until a session is as wanted.
func await(t *testing.T, r *Room, peer, what string, is func(observed.Session) bool) observed.Session {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		s := session1(t, r, peer)
		if is(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited 30 s for %s %s; it is %+v", peer, what, s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// awaitRoutes waits until a router has exactly these prefixes in its kernel.
func awaitRoutes(t *testing.T, r *router.Router, prefixes ...string) map[netip.Prefix]router.Route {
	t.Helper()
	want := make(map[netip.Prefix]bool)
	for _, p := range prefixes {
		want[netip.MustParsePrefix(p)] = true
	}
	var got map[netip.Prefix]router.Route
	deadline := time.Now().Add(20 * time.Second)
	for {
		got = r.Routes(t)
		have := make(map[netip.Prefix]bool)
		for p := range got {
			have[p] = true
		}
		if maps.Equal(have, want) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("the router has the routes %v, want %v\n%s", slices.Collect(maps.Keys(got)), prefixes, r.Log())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// frr is FRR as the Nth router, AS 64999, with lines for its neighbour, the node.
func frr(t *testing.T, ns *netns.NS, n int, lines string) *router.Router {
	t.Helper()
	return router.FRR(t, ns, fmt.Sprintf("router bgp 64999\n bgp router-id 10.0.%d.1\n%sexit\n", n, frrNeighbor(n, lines)))
}

// frrAtOnce is one FRR, AS 64999, that has the node as a neighbour on each of its
// links, with lines for the first and so on, which are written for the first.
func frrAtOnce(t *testing.T, ns *netns.NS, lines []string) *router.Router {
	t.Helper()
	config := "router bgp 64999\n bgp router-id 10.255.0.1\n"
	for i, l := range lines {
		config += frrNeighbor(i+1, at(i+1, l))
	}
	return router.FRR(t, ns, config+"exit\n")
}

// frrNeighbor are FRR's lines for the node on the Nth link.
func frrNeighbor(n int, lines string) string {
	return fmt.Sprintf(` bgp log-neighbor-changes
 no bgp ebgp-requires-policy
 neighbor 10.0.%[1]d.2 remote-as 64512
 neighbor 10.0.%[1]d.2 timers connect 1
 %[2]s
 address-family ipv4 unicast
  neighbor 10.0.%[1]d.2 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 10.0.%[1]d.2 activate
 exit-address-family
`, n, lines)
}

// frrUnnumbered is FRR with the node as a peer on its interface.
func frrUnnumbered(t *testing.T, ns *netns.NS) *router.Router {
	t.Helper()
	return router.FRR(t, ns, `
interface eth0
 ipv6 nd ra-interval 1
 no ipv6 nd suppress-ra
exit
router bgp 64999
 bgp router-id 10.0.1.1
 no bgp ebgp-requires-policy
 neighbor eth0 interface remote-as external
 address-family ipv4 unicast
  neighbor eth0 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor eth0 activate
 exit-address-family
exit
`)
}
