//go:build netns

package udp

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// soon bounds whatever should happen at once, on a machine that is busy.
const soon = 15 * time.Second

// A pair is this process in its namespace and a peer in another, joined by a
// wire with two addresses of each family, ours 1 and theirs 2.
type pair struct {
	node, peer *netns.NS
}

var (
	ours4, theirs4 = netip.MustParseAddr("10.7.0.1"), netip.MustParseAddr("10.7.0.2")
	ours6, theirs6 = netip.MustParseAddr("fd07::1"), netip.MustParseAddr("fd07::2")
	oursLL         = netip.MustParseAddr("fe80::7:1")
	theirsLL       = netip.MustParseAddr("fe80::7:2")
)

func newPair(t testing.TB) pair {
	p := pair{netns.Self(t), netns.New(t)}
	p.node.IP(t, "link set lo up")
	netns.Veth(t, p.node, "eth0", p.peer, "eth0")
	for n, ns := range map[int]*netns.NS{1: p.node, 2: p.peer} {
		ns.Sysctl(t, "ipv6/conf/eth0/accept_dad", "0")
		ns.IP(t, fmt.Sprintf("addr add 10.7.0.%d/24 dev eth0", n))
		ns.IP(t, fmt.Sprintf("addr add fd07::%d/64 dev eth0 nodad", n))
		ns.IP(t, fmt.Sprintf("addr add fe80::7:%d/64 dev eth0 nodad", n))
	}
	return p
}

// cut and mend are the wire's: packets vanish both ways, and nothing else is
// visible.
func (p pair) cut(t testing.TB) {
	p.peer.Run(t, "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0 ; policy drop ; }; add chain inet cut out { type filter hook output priority 0 ; policy drop ; }")
}

func (p pair) mend(t testing.TB) { p.peer.Run(t, "nft", "delete table inet cut") }

// running is a room that runs until the test ends.
type running struct {
	*Room
	registry *prometheus.Registry
	log      *lockedLog
	stop     func()
}

// lockedLog keeps what the room logs.
type lockedLog struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *lockedLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func runRoom(t testing.TB) *running {
	t.Helper()
	return startRoom(t, system{})
}

// runRoomIn runs a room whose sockets are in another namespace.
func runRoomIn(t testing.TB, ns *netns.NS) *running {
	t.Helper()
	return startRoom(t, elsewhere{t: t, ns: ns})
}

// elsewhere opens sockets in a namespace; they stay there.
type elsewhere struct {
	system
	t  testing.TB
	ns *netns.NS
}

func (e elsewhere) Listen(d door) (in inlet, err error) {
	e.ns.Do(e.t, func() error { in, err = e.system.Listen(d); return nil })
	return in, err
}

func (e elsewhere) Dial(p observed.BFDPeer) (out outlet, err error) {
	e.ns.Do(e.t, func() error { out, err = e.system.Dial(p); return nil })
	return out, err
}

func (e elsewhere) Echo(index int, local netip.Addr) (s echoSocket, err error) {
	e.ns.Do(e.t, func() error { s, err = e.system.Echo(index, local); return nil })
	return s, err
}

func (e elsewhere) Loops(index int, v6 bool) (yes bool) {
	e.ns.Do(e.t, func() error { yes = e.system.Loops(index, v6); return nil })
	return yes
}

func startRoom(t testing.TB, k kernel) *running {
	t.Helper()
	out := &running{registry: prometheus.NewPedanticRegistry(), log: &lockedLog{}}
	room, err := New(Config{Logger: slog.New(slog.NewTextHandler(out.log, nil)), Registerer: out.registry})
	if err != nil {
		t.Fatal(err)
	}
	room.kernel = k
	out.Room = room
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := room.Run(ctx); err != nil {
			t.Errorf("the room ended: %v", err)
		}
	}()
	out.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(func() {
		out.stop()
		if t.Failed() {
			t.Logf("the room's log:\n%s", out.log)
		}
	})
	return out
}

// value is the sum of a metric's series.
func (r *running) value(t testing.TB, name string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// awaitState waits until a session is in a state, and returns it.
func (r *running) awaitState(t testing.TB, key observed.BFDPeer, state bfd.State) observed.BFDSession {
	t.Helper()
	var got observed.BFDSession
	deadline := time.Now().Add(soon)
	for {
		got = r.Observed()[key]
		if got.State == state && got.Since != (time.Time{}) {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("the session with %s is not %s within %s: %+v", label(key), state, soon, got)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func every(interval time.Duration) desired.BFDParameters {
	return desired.BFDParameters{TransmitInterval: interval, ReceiveInterval: interval, DetectMultiplier: 3, MinimumTTL: 254}
}

// frrPeer is a session in the words of FRR.
type frrPeer struct {
	Peer, Status, Diagnostic string
	RemoteDiagnostic         string `json:"remote-diagnostic"`
	Multihop                 bool
	ID                       uint32 `json:"id"`
	RemoteID                 uint32 `json:"remote-id"`
	ReceiveInterval          int    `json:"receive-interval"`
	TransmitInterval         int    `json:"transmit-interval"`
	EchoInterval             int    `json:"echo-transmit-interval"`
	RemoteReceive            int    `json:"remote-receive-interval"`
	RemoteTransmit           int    `json:"remote-transmit-interval"`
	RemoteEcho               int    `json:"remote-echo-receive-interval"`
	RemoteMultiplier         int    `json:"remote-detect-multiplier"`
}

// frrCounters are the packets of a session in the words of FRR.
type frrCounters struct {
	Peer       string
	ControlIn  int `json:"control-packet-input"`
	ControlOut int `json:"control-packet-output"`
	EchoIn     int `json:"echo-packet-input"`
	EchoOut    int `json:"echo-packet-output"`
	Ups        int `json:"session-up"`
	Downs      int `json:"session-down"`
}

func askFRR(t testing.TB, r *router.Router) frrPeer {
	t.Helper()
	var peers []frrPeer
	r.JSON(t, "show bfd peers json", &peers)
	if len(peers) != 1 {
		t.Fatalf("FRR has %d sessions, want 1", len(peers))
	}
	return peers[0]
}

func countersFRR(t testing.TB, r *router.Router) frrCounters {
	t.Helper()
	var peers []frrCounters
	r.JSON(t, "show bfd peers counters json", &peers)
	if len(peers) != 1 {
		t.Fatalf("FRR has %d sessions, want 1", len(peers))
	}
	return peers[0]
}

// frrBFD is a configuration with one session.
func frrBFD(peer string, interval time.Duration, more ...string) string {
	lines := append([]string{"bfd", " peer " + peer,
		fmt.Sprintf("  receive-interval %d", interval.Milliseconds()),
		fmt.Sprintf("  transmit-interval %d", interval.Milliseconds())}, more...)
	return strings.Join(append(lines, "  no shutdown", " exit", "exit"), "\n")
}
