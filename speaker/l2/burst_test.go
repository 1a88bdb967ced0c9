package l2

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// play runs a burster for a span and notes each shot with its moment.
func play(b *burster, from time.Time, span time.Duration, each func(time.Time, shot)) {
	end := from.Add(span)
	for now := from; ; {
		shots, next := b.Next(now, nil)
		for _, s := range shots {
			each(now, s)
		}
		if next.IsZero() || next.After(end) {
			return
		}
		now = next
	}
}

func TestBurstOfOneAddress(t *testing.T) {
	for name, test := range map[string]struct {
		addr netip.Addr
		want []string
	}{
		"IPv4 sends both forms each time": {vip4, []string{
			"0s/0", "0s/1", "100ms/0", "100ms/1", "300ms/0", "300ms/1", "1.1s/0", "1.1s/1",
			"2.2s/0", "2.2s/1", "3.3s/0", "3.3s/1", "4.4s/0", "4.4s/1",
		}},
		"IPv6 sends one advertisement each time": {vip6, []string{
			"0s/0", "100ms/0", "300ms/0", "1.1s/0", "2.2s/0", "3.3s/0", "4.4s/0",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBurster(0)
			b.Start(epoch, target{test.addr, 2})
			var got []string
			play(b, epoch, time.Hour, func(now time.Time, s shot) {
				got = append(got, fmt.Sprintf("%s/%d", now.Sub(epoch), s.form))
			})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("shots (-want +got):\n%s", diff)
			}
			if len(b.items) != 0 {
				t.Errorf("%d targets are left after the burst", len(b.items))
			}
		})
	}
}

func TestRefreshFollowsTheBurst(t *testing.T) {
	b := newBurster(30 * time.Second)
	b.Start(epoch, target{vip6, 2})
	var moments []time.Duration
	play(b, epoch, 5*time.Minute, func(now time.Time, s shot) { moments = append(moments, now.Sub(epoch)) })
	refreshes := moments[len(burstAt):]
	if len(refreshes) < 9 || len(refreshes) > 10 {
		t.Fatalf("%d refreshes in five minutes, want about ten: %v", len(refreshes), refreshes)
	}
	if wait := refreshes[0] - moments[len(burstAt)-1]; wait < 15*time.Second || wait > 45*time.Second {
		t.Errorf("the first refresh comes %s after the burst, want about a period", wait)
	}
	for i := range refreshes[1:] {
		if gap := refreshes[i+1] - refreshes[i]; gap != 30*time.Second {
			t.Errorf("refresh %d comes %s after the one before, want 30s", i+1, gap)
		}
	}
}

func TestManyTakeoversKeepThePace(t *testing.T) {
	const addresses = 5000
	b := newBurster(30 * time.Second)
	for i := range uint32(addresses) {
		b.Start(epoch, target{v4(0x0a000000 + i), 2})
	}
	frames := make(map[target]int)
	perSecond := make(map[int]int)
	var last time.Time // when the last target's first frame was sent
	play(b, epoch, 2*time.Minute, func(now time.Time, s shot) {
		if frames[s.target] == 0 {
			last = now
		}
		if frames[s.target] == 1 && len(frames) < addresses {
			t.Fatalf("%s: %s has its second frame while only %d of %d addresses have their first", now.Sub(epoch), s.addr, len(frames), addresses)
		}
		frames[s.target]++
		perSecond[int(now.Sub(epoch)/time.Second)]++
	})
	if len(frames) != addresses {
		t.Errorf("%d addresses were announced, want all %d", len(frames), addresses)
	}
	if d := last.Sub(epoch); d > 600*time.Millisecond {
		t.Errorf("the last address is announced after %s, want half a second", d)
	}
	for second, n := range perSecond {
		if n > framesPerSecond+framesPerSecond/10 {
			t.Errorf("second %d: %d frames, want at most %d", second, n, framesPerSecond)
		}
		// The refresh: two frames for each address every 30 s are 333 in a second.
		if second >= 60 && n > 500 {
			t.Errorf("second %d: %d frames of refresh, want them spread", second, n)
		}
	}
}

func TestStoppedTargetsAreSilent(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBurster(30 * time.Second)
		now := epoch
		on := make(map[target]bool)
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			tg := target{v4(uint32(rapid.IntRange(1, 4).Draw(rt, "addr"))), rapid.IntRange(2, 3).Draw(rt, "index")}
			if rapid.Bool().Draw(rt, "start") {
				b.Start(now, tg)
				on[tg] = true
			} else {
				b.Stop(tg)
				delete(on, tg)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 2000).Draw(rt, "ms")) * time.Millisecond)
			shots, next := b.Next(now, nil)
			for _, s := range shots {
				if !on[s.target] {
					rt.Fatalf("%v is stopped and sends", s.target)
				}
			}
			if len(on) > 0 && next.IsZero() {
				rt.Fatalf("%d targets and nothing planned", len(on))
			}
			if len(b.items) != len(on) {
				rt.Fatalf("%d items for %d targets", len(b.items), len(on))
			}
			for i, item := range b.later {
				if item.place != i || item.stopped {
					rt.Fatalf("the heap holds %+v at %d", item, i)
				}
			}
		}
	})
}

func TestRefreshIsSpread(t *testing.T) {
	const buckets = 30
	counts := make([]int, buckets)
	for i := range uint32(3000) {
		next := nextRefresh(epoch, 30*time.Second, target{v4(0x0a000000 + i), 2}.hash())
		counts[next.Unix()%buckets]++
	}
	if slices.Max(counts) > 200 || slices.Min(counts) < 30 {
		t.Errorf("refreshes in each second of the period: %v, want about 100 each", counts)
	}
}
