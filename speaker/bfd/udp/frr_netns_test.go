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

const ms = time.Millisecond

// kinds are the ways to reach the peer, and FRR's words for the way back.
var kinds = []struct {
	name string
	key  observed.BFDPeer
	frr  string
}{
	{"IPv4", observed.BFDPeer{Remote: theirs4}, "10.7.0.1"},
	{"IPv6", observed.BFDPeer{Remote: theirs6}, "fd07::1 local-address fd07::2"},
	{"link-local", observed.BFDPeer{Remote: theirsLL, Local: oursLL, Interface: "eth0"}, "fe80::7:1 local-address fe80::7:2 interface eth0"},
	{"IPv4 multihop", observed.BFDPeer{Remote: theirs4, Local: ours4, Multihop: true}, "10.7.0.1 multihop local-address 10.7.0.2"},
	{"IPv6 multihop", observed.BFDPeer{Remote: theirs6, Local: ours6, Multihop: true}, "fd07::1 multihop local-address fd07::2"},
}

// A session with FRR comes up, both sides agree on the intervals, it stays up,
// and a cut wire is noticed within the detection time.
func TestNetnsFRR(t *testing.T) {
	for _, kind := range kinds {
		for _, interval := range []time.Duration{50 * ms, 100 * ms, 300 * ms} {
			t.Run(fmt.Sprintf("%s at %s", kind.name, interval), func(t *testing.T) {
				p := newPair(t)
				frr := router.FRR(t, p.peer, frrBFD(kind.frr, interval))
				r := runRoom(t)
				r.Set(desired.BFD{kind.key: every(interval)})
				up := r.awaitState(t, kind.key, bfd.Up)
				netns.Wait(t, soon, "FRR and we agree", func() bool {
					f, o := askFRR(t, frr), r.Observed()[kind.key]
					return f.Status == "up" && f.RemoteID == o.Local && f.ID == o.Remote &&
						f.RemoteReceive == int(interval.Milliseconds()) && f.RemoteTransmit == int(interval.Milliseconds()) &&
						o.Transmit == interval && o.Detect == 3*interval
				})
				watch := time.Now().Add(2 * time.Second)
				netns.Wait(t, soon, "two seconds have passed", func() bool { return time.Now().After(watch) })
				if now := r.Observed()[kind.key]; now.State != bfd.Up || !now.Since.Equal(up.Since) {
					t.Errorf("the session flapped: %+v", now)
				}
				if c := countersFRR(t, frr); c.Ups != 1 || c.Downs != 0 {
					t.Errorf("FRR counts %d ups and %d downs", c.Ups, c.Downs)
				}
				p.cut(t)
				cut := time.Now()
				down := r.awaitState(t, kind.key, bfd.Down)
				t.Logf("down %s after the cut", down.Since.Sub(cut))
				if down.Reason != reason.BFDDetectionTimeExpired || !down.Failed() {
					t.Errorf("want a failure by expiry: %+v", down)
				}
				p.mend(t)
				r.awaitState(t, kind.key, bfd.Up)
			})
		}
	}
}
