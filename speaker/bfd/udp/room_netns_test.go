//go:build netns

package udp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// twoRooms are two rooms of ours at the two ends, with one session.
func twoRooms(t *testing.T, ours, theirs desired.BFDParameters) (pair, *running, *running) {
	p := newPair(t)
	near, far := runRoom(t), runRoomIn(t, p.peer)
	far.Set(desired.BFD{{Remote: ours4}: theirs})
	near.Set(desired.BFD{{Remote: theirs4}: ours})
	return p, near, far
}

var toTheirs, toOurs = observed.BFDPeer{Remote: theirs4}, observed.BFDPeer{Remote: ours4}

// A peer that switches BFD off has not failed, neither at once nor later; our
// own end of a session is the same for the peer.
func TestNetnsAdminDownIsNoFailure(t *testing.T) {
	p := newPair(t)
	frr := router.FRR(t, p.peer, frrBFD("10.7.0.1", 100*ms))
	r := runRoom(t)
	r.Set(desired.BFD{toTheirs: every(100 * ms)})
	r.awaitState(t, toTheirs, bfd.Up)
	frr.Configure(t, "bfd\n peer 10.7.0.1\n  shutdown\n exit\nexit")
	down := r.awaitState(t, toTheirs, bfd.Down)
	if down.Failed() || !down.RemoteAdminDown || down.Reason != reason.BFDAdminDown {
		t.Errorf("want no failure: %+v", down)
	}
	frr.Configure(t, "bfd\n peer 10.7.0.1\n  no shutdown\n exit\nexit")
	r.awaitState(t, toTheirs, bfd.Up)

	r.Set(desired.BFD{})
	netns.Wait(t, soon, "FRR hears that we left", func() bool {
		f := askFRR(t, frr)
		return f.Status == "down" && f.RemoteDiagnostic == "administratively down"
	})
	if n := len(r.Observed()); n != 0 {
		t.Errorf("%d sessions are left", n)
	}
	r.Set(desired.BFD{toTheirs: every(100 * ms)})
	r.awaitState(t, toTheirs, bfd.Up)
	r.stop()
	netns.Wait(t, soon, "FRR hears that the speaker ends", func() bool {
		return askFRR(t, frr).RemoteDiagnostic == "administratively down"
	})
}

func TestNetnsAuthenticationBetweenRooms(t *testing.T) {
	key := every(50 * ms)
	key.Auth = desired.BFDAuth{Meticulous: true, KeyID: 3, Key: "12345678901234567890"}
	_, near, far := twoRooms(t, key, key)
	near.awaitState(t, toTheirs, bfd.Up)
	far.awaitState(t, toOurs, bfd.Up)
	plain := every(50 * ms)
	far.Set(desired.BFD{toOurs: plain})
	if down := near.awaitState(t, toTheirs, bfd.Down); !down.Failed() {
		t.Errorf("a peer without the key: %+v", down)
	}
	netns.Wait(t, soon, "the reason says why", func() bool {
		return strings.Contains(near.Observed()[toTheirs].Message, "packet is not authenticated")
	})
	if near.value(t, "heraldlb_bfd_dropped_packets_total") == 0 {
		t.Error("no dropped packet is counted")
	}
	far.Set(desired.BFD{toOurs: key})
	near.awaitState(t, toTheirs, bfd.Up)
}

func TestNetnsPassiveWaitsForThePeer(t *testing.T) {
	passive := every(50 * ms)
	passive.Passive = true
	_, near, far := twoRooms(t, passive, passive)
	watch := time.Now().Add(time.Second)
	netns.Wait(t, soon, "a second has passed", func() bool { return time.Now().After(watch) })
	if n := near.value(t, "metallb_bfd_control_packet_output"); n != 0 {
		t.Errorf("%v packets were sent to a peer that is silent", n)
	}
	if o := near.Observed()[toTheirs]; o.Reason != reason.BFDNeverUp || !strings.Contains(o.Message, "passive") {
		t.Errorf("%+v", o)
	}
	far.Set(desired.BFD{toOurs: every(50 * ms)})
	near.awaitState(t, toTheirs, bfd.Up)
}

// Packets that a router has forwarded are not a neighbour's.
func TestNetnsWrongTTLIsDropped(t *testing.T) {
	p := newPair(t)
	// The peer's packets lose one hop on the way.
	p.peer.Run(t, "nft", "add table ip hop; add chain ip hop out { type filter hook output priority 0 ; }; add rule ip hop out udp dport 3784 ip ttl set 254")
	near, far := runRoom(t), runRoomIn(t, p.peer)
	far.Set(desired.BFD{toOurs: every(50 * ms)})
	near.Set(desired.BFD{toTheirs: every(50 * ms)})
	netns.Wait(t, soon, "the reason names the TTL", func() bool {
		o := near.Observed()[toTheirs]
		return o.Reason == reason.BFDNeverUp && strings.Contains(o.Message, "TTL")
	})
	p.peer.Run(t, "nft", "delete table ip hop")
	near.awaitState(t, toTheirs, bfd.Up)

	// For multihop sessions the operator says how many are too many.
	multihop := observed.BFDPeer{Remote: theirs4, Local: ours4, Multihop: true}
	p.peer.Run(t, "nft", "add table ip hop; add chain ip hop out { type filter hook output priority 0 ; }; add rule ip hop out udp dport 4784 ip ttl set 250")
	far.Set(desired.BFD{{Remote: ours4, Multihop: true}: every(50 * ms)})
	params := every(50 * ms)
	params.MinimumTTL = 251
	near.Set(desired.BFD{multihop: params})
	netns.Wait(t, soon, "the reason names the TTL", func() bool {
		return strings.Contains(near.Observed()[multihop].Message, "TTL")
	})
	params.MinimumTTL = 250
	near.Set(desired.BFD{multihop: params})
	near.awaitState(t, multihop, bfd.Up)
}

// Another program on the port is named, and waited for.
func TestNetnsPortInUse(t *testing.T) {
	p := newPair(t)
	other := router.BIRD(t, p.node, birdBFD("10.7.0.2", "", 300*ms))
	far := runRoomIn(t, p.peer)
	far.Set(desired.BFD{toOurs: every(300 * ms)})
	near := runRoom(t)
	near.Set(desired.BFD{toTheirs: every(50 * ms)})
	netns.Wait(t, soon, "the reason names the port", func() bool {
		o := near.Observed()[toTheirs]
		return o.State == bfd.Down && o.Reason == reason.BFDPortInUse && strings.Contains(o.Message, "3784") && !o.Failed()
	})
	other.Kill(t, "bird")
	near.awaitState(t, toTheirs, bfd.Up)
}

// What is missing is named, and used as soon as it is there; an interface that
// went away and came back is another one to the kernel.
func TestNetnsSourceAndInterfaceComeAndGo(t *testing.T) {
	p := newPair(t)
	near, far := runRoom(t), runRoomIn(t, p.peer)
	source := observed.BFDPeer{Remote: theirs4, Local: netip.MustParseAddr("10.7.0.9")}
	linkLocal := observed.BFDPeer{Remote: theirsLL, Interface: "late0"}
	near.Set(desired.BFD{source: every(50 * ms), linkLocal: every(50 * ms)})
	far.Set(desired.BFD{{Remote: source.Local}: every(50 * ms)})
	netns.Wait(t, soon, "the reasons name address and interface", func() bool {
		o := near.Observed()
		return o[source].Reason == reason.BFDSocketFailed && strings.Contains(o[source].Message, "10.7.0.9") &&
			o[linkLocal].Reason == reason.BFDSocketFailed && strings.Contains(o[linkLocal].Message, "late0")
	})
	p.node.IP(t, "addr add 10.7.0.9/24 dev eth0")
	near.awaitState(t, source, bfd.Up)
	for range 2 {
		late := netns.New(t)
		netns.Veth(t, p.node, "late0", late, "eth0")
		late.Sysctl(t, "ipv6/conf/eth0/accept_dad", "0")
		p.node.IP(t, "addr add fe80::7:1/64 dev late0 nodad")
		late.IP(t, "addr add fe80::7:2/64 dev eth0 nodad")
		other := runRoomIn(t, late)
		other.Set(desired.BFD{{Remote: oursLL, Interface: "eth0"}: every(50 * ms)})
		near.awaitState(t, linkLocal, bfd.Up)
		p.node.IP(t, "link del late0")
		near.awaitState(t, linkLocal, bfd.Down)
		other.stop()
	}
	if now := near.Observed()[source]; now.State != bfd.Up {
		t.Errorf("the other session suffered: %+v", now)
	}
}

// Packets on the wire are as the RFCs want them, in the words of a third party.
func TestNetnsWitness(t *testing.T) {
	p, near, _ := twoRooms(t, every(50*ms), every(50*ms))
	near.awaitState(t, toTheirs, bfd.Up)
	out := p.peer.Run(t, "tshark", "-i", "eth0", "-c", "10", "-f", "udp dst port 3784 and src host 10.7.0.1", "-T", "fields",
		"-e", "ip.ttl", "-e", "ip.dsfield.dscp", "-e", "udp.srcport", "-e", "bfd.version", "-e", "bfd.sta", "-e", "bfd.desired_min_tx_interval", "-e", "_ws.malformed")
	ports := map[string]bool{}
	n := 0
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if len(f) < 6 {
			continue
		}
		n++
		ports[f[2]] = true
		if f[0] != "255" || f[1] != "48" || f[2] < "49152" || f[3] != "1" || f[4] != "0x03" || f[6] != "" {
			t.Errorf("ttl, dscp, source port, version, state, interval, malformed: %q", f)
		}
	}
	if n != 10 || len(ports) != 1 {
		t.Errorf("%d packets from ports %v, want 10 from one:\n%s", n, ports, out)
	}
}

// The room ends in time when nobody listens, and leaves no socket.
func TestNetnsRunEnds(t *testing.T) {
	newPair(t)
	room, err := New(Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	room.Set(desired.BFD{toTheirs: every(50 * ms), {Remote: theirs6, Multihop: true}: every(time.Second)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- room.Run(ctx) }()
	netns.Wait(t, soon, "the sessions run", func() bool {
		o := room.Observed()
		return o[toTheirs].Local != 0
	})
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(soon):
		t.Fatal("Run does not end")
	}
	fd, err := udpSocket(false)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: singleHopPort}); errors.Is(err, unix.EADDRINUSE) {
		t.Error("the port is still in use")
	}
}
