package udp

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

var (
	hostA, hostB = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	toA, toB     = observed.BFDPeer{Remote: hostA}, observed.BFDPeer{Remote: hostB}
)

// at50 has 150 ms of detection; patient lets the peer be silent for longer.
var (
	at50    = desired.BFDParameters{TransmitInterval: 50 * time.Millisecond, ReceiveInterval: 50 * time.Millisecond, DetectMultiplier: 3}
	patient = desired.BFDParameters{TransmitInterval: 50 * time.Millisecond, ReceiveInterval: 2 * time.Second, DetectMultiplier: 3}
)

// fakeRooms run a story with two rooms on one net under virtual time.
func fakeRooms(t *testing.T, story func(t *testing.T, n *fakeNet, a, b *fakeRoom)) {
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet()
		story(t, n, startFake(t, n, hostA), startFake(t, n, hostB))
	})
}

type fakeRoom struct {
	*Room
	host    *fakeHost
	changes atomic.Int64
	stop    func()
}

func startFake(t *testing.T, n *fakeNet, addr netip.Addr) *fakeRoom {
	f := &fakeRoom{host: &fakeHost{net: n, addr: addr}}
	c := Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), OnChange: func() { f.changes.Add(1) }}
	f.Room = newRoom(c, f.host, [32]byte{addr.As4()[3]})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	f.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		ended <- nil
	}
	t.Cleanup(f.stop)
	return f
}

func (f *fakeRoom) want(t *testing.T, key observed.BFDPeer, state bfd.State) observed.BFDSession {
	t.Helper()
	synctest.Wait()
	o := f.Observed()[key]
	if o.State != state {
		t.Fatalf("the session with %s is %+v, want %s", key.Remote, o, state)
	}
	return o
}

func TestRoomNoticesACut(t *testing.T) {
	fakeRooms(t, func(t *testing.T, n *fakeNet, a, b *fakeRoom) {
		a.Set(desired.BFD{toB: at50})
		b.Set(desired.BFD{toA: at50})
		time.Sleep(5 * time.Second)
		a.want(t, toB, bfd.Up)
		b.want(t, toA, bfd.Up)
		n.mu.Lock()
		n.cut = true
		n.mu.Unlock()
		before := a.changes.Load()
		time.Sleep(170 * time.Millisecond)
		if o := a.want(t, toB, bfd.Down); !o.Failed() || o.Reason != reason.BFDDetectionTimeExpired {
			t.Errorf("%+v", o)
		}
		if a.changes.Load() == before {
			t.Error("nobody was told")
		}
		n.mu.Lock()
		n.cut = false
		n.mu.Unlock()
		time.Sleep(5 * time.Second)
		a.want(t, toB, bfd.Up)
	})
}

// The room did not run for longer than the detection time. The peer's packets
// waited, or were thrown away because so many waited: neither is its silence.
func TestRoomDoesNotBlameThePeer(t *testing.T) {
	for name, room := range map[string]int{"packets waited": 0, "packets were thrown away": 2} {
		t.Run(name, func(t *testing.T) {
			fakeRooms(t, func(t *testing.T, n *fakeNet, a, b *fakeRoom) {
				a.host.room = room
				a.Set(desired.BFD{toB: at50})
				b.Set(desired.BFD{toA: patient})
				time.Sleep(10 * time.Second)
				up := a.want(t, toB, bfd.Up)
				b.want(t, toA, bfd.Up)
				n.mu.Lock()
				a.host.stall = time.Second
				n.mu.Unlock()
				time.Sleep(3 * time.Second)
				if now := a.want(t, toB, bfd.Up); !now.Since.Equal(up.Since) {
					t.Errorf("the session fell: %+v", now)
				}
				// True silence is still noticed.
				n.mu.Lock()
				n.cut = true
				n.mu.Unlock()
				time.Sleep(time.Second)
				a.want(t, toB, bfd.Down)
			})
		})
	}
}

func TestRoomWaitsForThePort(t *testing.T) {
	fakeRooms(t, func(t *testing.T, n *fakeNet, a, b *fakeRoom) {
		port := netip.AddrPortFrom(hostA, singleHopPort)
		n.busy[port] = true
		a.Set(desired.BFD{toB: at50})
		b.Set(desired.BFD{toA: at50})
		time.Sleep(time.Minute)
		if o := a.want(t, toB, bfd.Down); o.Reason != reason.BFDPortInUse || o.Failed() {
			t.Errorf("%+v", o)
		}
		n.mu.Lock()
		delete(n.busy, port)
		n.mu.Unlock()
		time.Sleep(retryMost + 5*time.Second)
		a.want(t, toB, bfd.Up)
	})
}

// Any history that ends with the same wish ends in the same state, and sockets
// close with the last session that needs them.
func TestRoomFollowsItsWish(t *testing.T) {
	fakeRooms(t, func(t *testing.T, n *fakeNet, a, b *fakeRoom) {
		b.Set(desired.BFD{toA: at50})
		for range 5 {
			a.Set(desired.BFD{toB: at50})
			a.Set(desired.BFD{})
			a.Set(desired.BFD{toB: patient, {Remote: hostB, Multihop: true}: at50})
			time.Sleep(700 * time.Millisecond)
		}
		a.Set(desired.BFD{toB: at50})
		time.Sleep(10 * time.Second)
		a.want(t, toB, bfd.Up)
		if n := len(a.Observed()); n != 1 {
			t.Errorf("%d sessions, want 1", n)
		}
		a.Set(desired.BFD{})
		time.Sleep(10 * time.Second)
		if o := b.want(t, toA, bfd.Down); o.Failed() || !o.RemoteAdminDown {
			t.Errorf("the peer of a session that was ended on purpose sees %+v", o)
		}
		n.mu.Lock()
		for at := range n.inlets {
			if at.Addr() == hostA {
				t.Errorf("%s is still open", at)
			}
		}
		n.mu.Unlock()
	})
}

func TestRoomSaysGoodbye(t *testing.T) {
	fakeRooms(t, func(t *testing.T, _ *fakeNet, a, b *fakeRoom) {
		a.Set(desired.BFD{toB: at50})
		b.Set(desired.BFD{toA: at50})
		time.Sleep(5 * time.Second)
		a.want(t, toB, bfd.Up)
		begin := time.Now()
		a.stop()
		if took := time.Since(begin); took > farewell {
			t.Errorf("Run took %s to end", took)
		}
		if o := b.want(t, toA, bfd.Down); o.Failed() || o.Reason != reason.BFDAdminDown {
			t.Errorf("%+v", o)
		}
	})
}
