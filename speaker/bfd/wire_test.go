package bfd_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/heraldlb/herald/speaker/bfd"
)

// begin is when every simulation starts.
var begin = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// A wire joins two sessions under virtual time.
type wire struct {
	now   time.Time
	ends  [2]*bfd.Session
	keys  [2]string
	next  [2]time.Time
	delay time.Duration
	// lose decides on each packet from an end.
	lose func(from int) bool
	// echoes are returned unless loseEcho.
	loseEcho bool
	flying   []flight
	log      [2][]change
	sent     [2]int
	last     [2]bfd.Packet
	echoed   [2]int
}

type flight struct {
	at   time.Time
	to   int
	raw  []byte
	echo uint32
}

type change struct {
	at    time.Time
	state bfd.State
	diag  bfd.Diag
}

func newWire(a, b bfd.Parameters) *wire {
	w := &wire{now: begin, delay: time.Millisecond, lose: func(int) bool { return false }, keys: [2]string{a.Auth.Key, b.Auth.Key}}
	for i, p := range []bfd.Parameters{a, b} {
		w.ends[i] = bfd.New(begin, bfd.Config{Discriminator: uint32(i + 1), Seed: uint64(100 + i), Loops: true}, p)
		w.next[i] = begin
	}
	return w
}

// step gives an event to one end and puts what it sends on the wire.
func (w *wire) step(i int, e bfd.Event) bfd.Output {
	before := w.ends[i].Status().State
	out := w.ends[i].Step(w.now, e)
	w.next[i] = out.Next
	if e.Kind == bfd.Tick && !out.Next.IsZero() && !out.Next.After(w.now) {
		panic(fmt.Sprintf("after a tick at %s the next is at %s", w.now, out.Next))
	}
	for _, p := range out.Packets {
		w.sent[i]++
		w.last[i] = p
		if raw := p.Append(nil, w.keys[i]); !w.lose(i) {
			w.flying = append(w.flying, flight{at: w.now.Add(w.delay), to: 1 - i, raw: raw})
		}
	}
	if out.Echo {
		w.echoed[i]++
		if !w.loseEcho {
			w.flying = append(w.flying, flight{at: w.now.Add(2 * w.delay), to: i, echo: out.EchoSequence})
		}
	}
	if st := w.ends[i].Status(); st.State != before {
		w.log[i] = append(w.log[i], change{w.now, st.State, st.Diag})
	}
	return out
}

func (w *wire) set(i int, p bfd.Parameters) {
	w.keys[i] = p.Auth.Key
	w.step(i, bfd.Event{Kind: bfd.Configured, Parameters: p})
}

// run lets the time pass.
func (w *wire) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		at, do := end, func() {}
		for i := range w.ends {
			if n := w.next[i]; !n.IsZero() && n.Before(at) {
				at, do = n, func() { w.step(i, bfd.Event{}) }
			}
		}
		for k, f := range w.flying {
			if !f.at.After(at) {
				at, do = f.at, func() { w.flying = slices.Delete(w.flying, k, k+1); w.land(f) }
			}
		}
		if !at.Before(end) && len(w.flying) == 0 || at.Equal(end) {
			w.now = end
			return
		}
		if at.After(w.now) {
			w.now = at
		}
		do()
	}
}

func (w *wire) land(f flight) {
	if f.raw == nil {
		w.step(f.to, bfd.Event{Kind: bfd.EchoReturned, Echo: f.echo})
		return
	}
	var p bfd.Packet
	if err := bfd.Decode(f.raw, &p); err != nil {
		panic(err)
	}
	w.step(f.to, bfd.Event{Kind: bfd.Received, Packet: &p, Raw: f.raw})
}

func (w *wire) states() string {
	return fmt.Sprint(w.ends[0].Status().State, " ", w.ends[1].Status().State)
}

func (w *wire) want(t testing.TB, states string) {
	t.Helper()
	if got := w.states(); got != states {
		t.Fatalf("after %s: the ends are %s, want %s\n%v\n%v", w.now.Sub(begin), got, states, w.log[0], w.log[1])
	}
}

func every(interval time.Duration, multiplier uint8) bfd.Parameters {
	return bfd.Parameters{TransmitInterval: interval, ReceiveInterval: interval, DetectMultiplier: multiplier}
}

const ms = time.Millisecond

func TestTwoSessionsComeUp(t *testing.T) {
	w := newWire(every(50*ms, 3), every(300*ms, 5))
	w.run(2 * time.Second)
	w.want(t, "Up Up")
	a, b := w.ends[0].Status(), w.ends[1].Status()
	if a.Transmit != 300*ms || a.Detect != 1500*ms || b.Transmit != 300*ms || b.Detect != 900*ms {
		t.Errorf("intervals %s and %s, detection %s and %s", a.Transmit, b.Transmit, a.Detect, b.Detect)
	}
	w.run(time.Hour)
	if len(w.log[0]) > 2 || len(w.log[1]) > 2 {
		t.Errorf("an hour of quiet brought changes: %v %v", w.log[0], w.log[1])
	}
}

// drawn is a side's parameters from the whole range.
func drawn(t *rapid.T, name string) bfd.Parameters {
	p := bfd.Parameters{
		TransmitInterval: time.Duration(rapid.IntRange(10, 2000).Draw(t, name+" transmit")) * ms,
		ReceiveInterval:  time.Duration(rapid.IntRange(10, 2000).Draw(t, name+" receive")) * ms,
		DetectMultiplier: uint8(rapid.IntRange(2, 6).Draw(t, name+" multiplier")),
	}
	if rapid.Bool().Draw(t, name+" echo") {
		p.Echo, p.EchoInterval = true, 50*ms
	}
	return p
}

// Two sessions come up over a wire that loses packets, never flap while fewer
// are lost in a row than the multiplier allows, and go down within the
// detection time when the wire is cut.
func TestLossyWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawn(t, "a"), drawn(t, "b")
		if a.Echo && rapid.Bool().Draw(t, "only b echoes") {
			a.Echo = false
		}
		w := newWire(a, b)
		w.delay = time.Duration(rapid.IntRange(0, 4).Draw(t, "delay")) * ms
		seed := rapid.Uint64().Draw(t, "losses")
		inRow := [2]uint8{}
		mult := [2]uint8{a.DetectMultiplier, b.DetectMultiplier}
		w.lose = func(from int) bool {
			seed = seed*6364136223846793005 + 1442695040888963407
			// One fewer than the multiplier may miss, and one more interval is
			// the jitter's and the delay's.
			if seed>>40%2 == 0 && inRow[from]+2 < mult[from] {
				inRow[from]++
				return true
			}
			inRow[from] = 0
			return false
		}
		w.run(time.Minute)
		if w.states() != "Up Up" {
			t.Fatalf("after a minute: %s\n%v\n%v", w.states(), w.log[0], w.log[1])
		}
		up := [2]int{len(w.log[0]), len(w.log[1])}
		w.run(3 * time.Minute)
		if len(w.log[0]) != up[0] || len(w.log[1]) != up[1] {
			t.Fatalf("flapped\n%v\n%v", w.log[0], w.log[1])
		}
		detect := [2]time.Duration{w.ends[0].Status().Detect, w.ends[1].Status().Detect}
		cut := w.now
		w.lose, w.loseEcho = func(int) bool { return true }, true
		w.run(max(detect[0], detect[1]) + 2*w.delay + 1)
		for i := range w.ends {
			if len(w.log[i]) == up[i] {
				t.Fatalf("end %d did not notice the cut within %s", i, detect[i])
			}
			down := w.log[i][up[i]]
			if took := down.at.Sub(cut); down.state != bfd.Down || took > detect[i]+2*w.delay {
				t.Fatalf("end %d: %v after %s, detection time %s", i, down, took, detect[i])
			}
		}
	})
}
