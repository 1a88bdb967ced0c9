package l2

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/speaker/observed"
)

// moments writes times as spans since epoch.
func moments(at []time.Time) []string {
	var all []string
	for _, t := range at {
		all = append(all, t.Sub(epoch).String())
	}
	return all
}

func TestDefence(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	for name, test := range map[string]struct {
		refresh time.Duration
		heard   []time.Duration // after a takeover at 0, whose last round is at 4.4s
		until   time.Duration
		want    []string // rounds after that burst
	}{
		"nobody else announces": {0, nil, time.Hour, nil},
		"heard once":            {0, []time.Duration{20 * s}, time.Hour, []string{"21s", "21.3s"}},
		"heard before the last round of a takeover": {0, []time.Duration{50 * ms, 4300 * ms}, time.Hour, nil},
		"a takeover's whole burst is one conflict":  {0, []time.Duration{20 * s, 20*s + 100*ms, 20*s + 300*ms}, time.Hour, []string{"21s", "21.3s"}},
		"its last frames come after the defence": {
			0, []time.Duration{20 * s, 21100 * ms, 22200 * ms, 23300 * ms, 24400 * ms}, time.Hour, []string{"21s", "21.3s", "31s", "31.3s"},
		},
		"heard again after long": {0, []time.Duration{20 * s, time.Minute}, time.Hour, []string{"21s", "21.3s", "1m1s", "1m1.3s"}},
		"heard again at the interval's end": {
			0, []time.Duration{20 * s, 30500 * ms}, time.Hour, []string{"21s", "21.3s", "31.5s", "31.8s"},
		},
		"the refresh goes on after a defence": {
			30 * s, []time.Duration{20 * s}, 68 * s, []string{"21s", "21.3s", "refresh"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBurster(test.refresh)
			tg := target{vip6, 2}
			b.Start(epoch, tg)
			var at []time.Time
			note := func(now time.Time, _ shot) { at = append(at, now) }
			now := epoch
			for _, h := range test.heard {
				play(b, now, epoch.Add(h).Sub(now), note)
				now = epoch.Add(h)
				b.Defend(now, tg)
			}
			play(b, now, epoch.Add(test.until).Sub(now), note)
			got := moments(at[len(burstAt):])
			if n := len(got); test.refresh > 0 && n == len(test.want) {
				got[n-1] = "refresh" // at the target's own moment
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rounds after the takeover (-want +got):\n%s", diff)
			}
		})
	}
}

// However often the other station announces, the rate is bounded, and its last
// frame is never the last word.
func TestDefenceIsBoundedAndHasTheLastWord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBurster(rapid.SampledFrom([]time.Duration{0, 30 * time.Second}).Draw(rt, "refresh"))
		tg := target{vip6, 2}
		var at []time.Time
		note := func(now time.Time, _ shot) { at = append(at, now) }
		b.Start(epoch, tg)
		play(b, epoch, 5*time.Second, note)
		now, from := epoch.Add(5*time.Second), len(at)
		var heard time.Time
		for range rapid.IntRange(1, 200).Draw(rt, "frames") {
			b.Defend(now, tg)
			heard = now
			next := now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
			play(b, now, next.Sub(now), note)
			now = next
		}
		play(b, now, defendInterval+defendAfter, note)
		if final := at[len(at)-1]; !final.After(heard) {
			rt.Errorf("the other's last frame came at %s, ours at %s", heard.Sub(epoch), final.Sub(epoch))
		}
		ours := at[from:]
		for i := range ours {
			n := 0
			for _, u := range ours[i:] {
				if u.Sub(ours[i]) < defendInterval {
					n++
				}
			}
			if n > len(defenceAt)+1 { // one of the refresh
				rt.Fatalf("%d frames within %s: %v", n, defendInterval, moments(ours))
			}
		}
	})
}

// Two stations that both believe to own an address hear each other.
func TestTwoOwnersDoNotMakeAStorm(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 700 * time.Millisecond, 3 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			a, b := newBurster(30*time.Second), newBurster(30*time.Second)
			tg := target{vip4, 2}
			a.Start(epoch, tg)
			var frames []time.Time
			started := false
			end := epoch.Add(time.Minute + 10*time.Minute)
			for now := epoch; now.Before(end); now = now.Add(10 * time.Millisecond) {
				if !started && now.Sub(epoch) >= delay {
					b.Start(now, tg)
					started = true
				}
				fromA, _ := a.Next(now, nil)
				fromB, _ := b.Next(now, nil)
				if len(fromA) > 0 {
					b.Defend(now, tg)
				}
				if len(fromB) > 0 && started {
					a.Defend(now, tg)
				}
				if now.Sub(epoch) >= time.Minute {
					frames = append(frames, slices.Repeat([]time.Time{now}, len(fromA)+len(fromB))...)
				}
			}
			// Two stations, two rounds in two forms, once in the interval.
			most := 2 * len(defenceAt) * 2 * int(10*time.Minute/defendInterval)
			if len(frames) > most || len(frames) < most/2 {
				t.Errorf("%d frames in ten minutes, want about %d", len(frames), most)
			}
		})
	}
}

func TestContestedAddressIsAnnouncedAgain(t *testing.T) {
	claim4 := arpFrameOf(t, broadcast, theirMAC, arp.OperationReply, theirMAC, vip4.String(), broadcast, vip4.String())
	claim6 := ndpFrameOf(t, allNodesMAC, theirMAC, "fe80::bb", "ff02::1", &ndp.NeighborAdvertisement{Override: true, TargetAddress: vip6,
		Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: theirMAC[:]}}})
	fresh := v4(0x0a000009)
	for name, test := range map[string]struct {
		then func(*room)
		want int // frames on eth0: IPv4 in two forms, IPv6 in one
	}{
		"still ours":               {func(*room) {}, 2*2 + 2},
		"withdrawn in the second":  {func(r *room) { r.a.Set(nil) }, 0},
		"the interface is gone":    {func(r *room) { r.a.SetLinks(observed.Links{linkOf(3, "eth1", otherMAC)}) }, 0},
		"another change elsewhere": {func(r *room) { r.a.Set(wanted(vip4, vip6, fresh)) }, 2*2 + 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			r.a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC), linkOf(3, "eth1", otherMAC)})
			r.a.Set(wanted(vip4, vip6))
			r.now = pass(t, r.l, r.now, 5*time.Second)
			r.k.take(t)
			for range 100 {
				r.a.handle(r.k, protoARP, 2, claim4, make([]byte, 0, 128))
				r.a.handle(r.k, protoNDP, 2, claim6, make([]byte, 0, 128))
			}
			if n := len(r.a.contested); n != 2 {
				t.Errorf("%d targets are handed to the loop, want 2", n)
			}
			r.now = pass(t, r.l, r.now, 900*time.Millisecond)
			if got := r.k.take(t); len(got) != 0 {
				t.Errorf("announced before a second has passed: %v", got)
			}
			r.a.handle(r.k, protoARP, 2, claim4, make([]byte, 0, 128))
			if n := len(r.a.contested); n != 0 {
				t.Errorf("%d targets are handed to the loop again, before it has announced", n)
			}
			test.then(r)
			r.now = pass(t, r.l, r.now, 900*time.Millisecond)
			contested := func() []string {
				return slices.DeleteFunc(r.k.take(t), func(s string) bool { return strings.Contains(s, fresh.String()+" ") })
			}
			got := contested()
			if len(got) != test.want || slices.ContainsFunc(got, func(s string) bool { return !strings.HasPrefix(s, "2: ") }) {
				t.Errorf("announced %v, want %d frames, all on eth0", got, test.want)
			}
			if test.want == 0 {
				return
			}
			r.a.handle(r.k, protoARP, 2, claim4, make([]byte, 0, 128))
			r.now = pass(t, r.l, r.now, defendInterval+defendAfter)
			if got := contested(); len(got) != 2*2 {
				t.Errorf("announced %v after another conflict, want both forms twice", got)
			}
		})
	}
}

func TestForeignStationsAreLoggedATimeOrTen(t *testing.T) {
	var q quota
	say := func(now int64, times int) (said int, unsaid uint64) {
		for range times {
			ok, left := q.take(now)
			if ok {
				said++
			}
			unsaid += left
		}
		return said, unsaid
	}
	for _, step := range []struct {
		now    int64
		times  int
		said   int
		unsaid uint64
	}{
		{now: 1000, times: 4, said: 4},
		{now: 1029, times: 1000, said: 6},
		{now: 1031, times: 1, said: 1, unsaid: 994},
		{now: 1032, times: 20, said: 9},
		{now: 2000, times: 1, said: 1, unsaid: 11},
	} {
		if said, unsaid := say(step.now, step.times); said != step.said || unsaid != step.unsaid {
			t.Errorf("at %d: %d lines that own up to %d unsaid ones, want %d and %d", step.now, said, unsaid, step.said, step.unsaid)
		}
	}
}
