//go:build netns

package udp

import (
	"fmt"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// echoMode switches FRR's echo packets on, which it comments on.
func echoMode(t testing.TB, frr *router.Router) {
	frr.Ask(t, "configure terminal", "bfd", "peer 10.7.0.1 interface eth0", "echo-mode")
}

// Both sides send echo packets that the other's kernel forwards back. When the
// peer stops to forward, the session goes down although control packets pass.
func TestNetnsEchoBothWays(t *testing.T) {
	p := newPair(t)
	p.node.Sysctl(t, "ipv4/ip_forward", "1")
	p.peer.Sysctl(t, "ipv4/ip_forward", "1")
	frr := router.FRR(t, p.peer, frrBFD("10.7.0.1 interface eth0", 300*ms, "  echo transmit-interval 50", "  echo receive-interval 50"))
	echoMode(t, frr)
	r := runRoom(t)
	key := observed.BFDPeer{Remote: theirs4}
	params := every(300 * ms)
	params.Echo, params.EchoInterval = true, 50*ms
	r.Set(desired.BFD{key: params})
	up := r.awaitState(t, key, bfd.Up)
	metric := func(name string) float64 { return r.value(t, name) }
	netns.Wait(t, soon, "echo packets of ours come back, and FRR's to FRR", func() bool {
		c := countersFRR(t, frr)
		return metric("metallb_bfd_echo_packet_input") > 40 && c.EchoIn > 20 && c.EchoOut > 20
	})
	if now := r.Observed()[key]; now.State != bfd.Up || !now.Since.Equal(up.Since) {
		t.Errorf("the session flapped: %+v", now)
	}
	if c := countersFRR(t, frr); c.Downs != 0 {
		t.Errorf("FRR counts %d downs", c.Downs)
	}
	f := askFRR(t, frr)
	if f.RemoteEcho != 50 {
		t.Errorf("FRR hears that we take echo packets every %d ms, want 50", f.RemoteEcho)
	}
	netns.Wait(t, soon, "control packets are slow while echo packets watch", func() bool {
		return askFRR(t, frr).RemoteReceive == 1000
	})
	stop := time.Now()
	p.peer.Sysctl(t, "ipv4/ip_forward", "0")
	done := time.Now()
	down := r.awaitState(t, key, bfd.Down)
	t.Logf("down %s after the peer was told to stop forwarding, which took %s", down.Since.Sub(stop), done.Sub(stop))
	if down.Reason != reason.BFDEchoFailed && down.Reason != reason.BFDNeighborSignaledDown {
		t.Errorf("want a failure of the echo: %+v", down)
	}
}

// A node that does not forward tells the peer to send no echo packets: they
// would be lost, and the session with them.
func TestNetnsEchoIsRefusedWithoutForwarding(t *testing.T) {
	p := newPair(t)
	p.node.Sysctl(t, "ipv4/ip_forward", "0")
	frr := router.FRR(t, p.peer, frrBFD("10.7.0.1 interface eth0", 100*ms, "  echo transmit-interval 50"))
	echoMode(t, frr)
	r := runRoom(t)
	key := observed.BFDPeer{Remote: theirs4}
	params := every(100 * ms)
	params.EchoInterval = 50 * ms
	r.Set(desired.BFD{key: params})
	up := r.awaitState(t, key, bfd.Up)
	watch := time.Now().Add(2 * time.Second)
	netns.Wait(t, soon, "two seconds have passed", func() bool { return time.Now().After(watch) })
	if now := r.Observed()[key]; now.State != bfd.Up || !now.Since.Equal(up.Since) {
		t.Errorf("the session flapped: %+v", now)
	}
	if f := askFRR(t, frr); f.RemoteEcho != 0 {
		t.Errorf("FRR hears that we take echo packets every %d ms, want none", f.RemoteEcho)
	}
}

// IPv6 has no different rules; the peer here is a kernel that forwards, and a
// room of ours that says so.
func TestNetnsEchoIPv6(t *testing.T) {
	p := newPair(t)
	p.node.Sysctl(t, "ipv6/conf/all/forwarding", "1")
	p.peer.Sysctl(t, "ipv6/conf/all/forwarding", "1")
	params := every(300 * ms)
	params.Echo, params.EchoInterval = true, 50*ms
	theirs := runRoomIn(t, p.peer)
	theirs.Set(desired.BFD{{Remote: ours6}: params})
	r := runRoom(t)
	key := observed.BFDPeer{Remote: theirs6}
	r.Set(desired.BFD{key: params})
	r.awaitState(t, key, bfd.Up)
	netns.Wait(t, soon, "echo packets come back", func() bool { return r.value(t, "metallb_bfd_echo_packet_input") > 20 })
	if down := r.value(t, "metallb_bfd_session_down_events"); down != 0 {
		t.Error(fmt.Sprint("downs: ", down))
	}
}
