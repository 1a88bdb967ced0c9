//go:build netns

package udp

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/internal/testutil/router"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// birdBFD is a configuration with one session.
func birdBFD(neighbor, options string, interval time.Duration) string {
	return fmt.Sprintf(`router id 10.7.0.2;
protocol device { }
protocol bfd {
  interface "*" { interval %d ms; idle tx interval 1 s; multiplier 3; %s };
  multihop { interval %d ms; multiplier 3; };
  neighbor %s;
}
`, interval.Milliseconds(), options, interval.Milliseconds(), neighbor)
}

var birdStates = regexp.MustCompile(`(?m)^(\S+)\s+(\S+)\s+(Up|Down|Init|AdminDown)\s`)

// birdState is the state of BIRD's only session.
func birdState(t testing.TB, r *router.Router) string {
	t.Helper()
	m := birdStates.FindStringSubmatch(r.Ask(t, "show bfd sessions"))
	if m == nil {
		return ""
	}
	return m[3]
}

func TestNetnsBIRD(t *testing.T) {
	kinds := []struct {
		name, neighbor string
		key            observed.BFDPeer
	}{
		{"IPv4", "10.7.0.1", observed.BFDPeer{Remote: theirs4}},
		{"IPv6", "fd07::1", observed.BFDPeer{Remote: theirs6}},
		{"link-local", "fe80::7:1 dev \"eth0\"", observed.BFDPeer{Remote: theirsLL, Interface: "eth0"}},
		{"IPv4 multihop", "10.7.0.1 local 10.7.0.2 multihop on", observed.BFDPeer{Remote: theirs4, Multihop: true}},
	}
	for _, kind := range kinds {
		for _, interval := range []time.Duration{50 * ms, 100 * ms, 300 * ms} {
			t.Run(fmt.Sprintf("%s at %s", kind.name, interval), func(t *testing.T) {
				p := newPair(t)
				bird := router.BIRD(t, p.peer, birdBFD(kind.neighbor, "", interval))
				r := runRoom(t)
				params := every(interval)
				// BIRD sends the packets of multihop sessions with a TTL of 64.
				params.MinimumTTL = 64
				r.Set(desired.BFD{kind.key: params})
				up := r.awaitState(t, kind.key, bfd.Up)
				netns.Wait(t, soon, "BIRD says Up and the intervals are agreed", func() bool {
					o := r.Observed()[kind.key]
					return birdState(t, bird) == "Up" && o.Transmit == interval && o.Detect == 3*interval
				})
				watch := time.Now().Add(2 * time.Second)
				netns.Wait(t, soon, "two seconds have passed", func() bool { return time.Now().After(watch) })
				if now := r.Observed()[kind.key]; now.State != bfd.Up || !now.Since.Equal(up.Since) {
					t.Errorf("the session flapped: %+v", now)
				}
				p.cut(t)
				down := r.awaitState(t, kind.key, bfd.Down)
				if down.Reason != reason.BFDDetectionTimeExpired || !down.Failed() {
					t.Errorf("want a failure by expiry: %+v", down)
				}
				p.mend(t)
				r.awaitState(t, kind.key, bfd.Up)
			})
		}
	}
}

// BIRD speaks both kinds of SHA1; a wrong key keeps the session down and is named.
func TestNetnsBIRDAuthentication(t *testing.T) {
	key := observed.BFDPeer{Remote: theirs4}
	for _, kind := range []struct {
		name       string
		meticulous bool
	}{{"keyed sha1", false}, {"meticulous keyed sha1", true}} {
		t.Run(kind.name, func(t *testing.T) {
			p := newPair(t)
			router.BIRD(t, p.peer, birdBFD("10.7.0.1", fmt.Sprintf("authentication %s; password \"secret\" { id 7; };", kind.name), 100*ms))
			r := runRoom(t)
			params := every(100 * ms)
			params.Auth = desired.BFDAuth{Meticulous: kind.meticulous, KeyID: 7, Key: "wrong"}
			r.Set(desired.BFD{key: params})
			netns.Wait(t, soon, "the reason names the key", func() bool {
				o := r.Observed()[key]
				return o.Reason == reason.BFDNeverUp && strings.Contains(o.Message, "the keys differ")
			})
			params.Auth.Key = "secret"
			r.Set(desired.BFD{key: params})
			r.awaitState(t, key, bfd.Up)
			watch := time.Now().Add(2 * time.Second)
			netns.Wait(t, soon, "two seconds have passed", func() bool { return time.Now().After(watch) })
			if o := r.Observed()[key]; o.State != bfd.Up || o.Since.After(watch.Add(-time.Second)) {
				t.Errorf("the session flapped: %+v", o)
			}
			params.Auth.Key = ""
			r.Set(desired.BFD{key: params})
			r.awaitState(t, key, bfd.Down)
			if strings.Contains(r.log.String(), "secret") {
				t.Error("the key is in the log")
			}
		})
	}
}
