package bfd_test

import (
	"slices"
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
)

// The state machine of RFC 5880, sections 6.2 and 6.8.6, every cell of it.
func TestTransitions(t *testing.T) {
	states := []bfd.State{bfd.AdminDown, bfd.Down, bfd.Init, bfd.Up}
	want := map[bfd.State][]bfd.State{
		// received:     AdminDown      Down           Init           Up
		bfd.AdminDown: {bfd.AdminDown, bfd.AdminDown, bfd.AdminDown, bfd.AdminDown},
		bfd.Down:      {bfd.Down, bfd.Init, bfd.Up, bfd.Down},
		bfd.Init:      {bfd.Down, bfd.Init, bfd.Up, bfd.Up},
		bfd.Up:        {bfd.Down, bfd.Down, bfd.Up, bfd.Up},
	}
	for _, local := range states {
		for i, remote := range states {
			if got := bfd.Transition(local, remote); got != want[local][i] {
				t.Errorf("%s hears %s: %s, want %s", local, remote, got, want[local][i])
			}
		}
	}
}

func TestJitter(t *testing.T) {
	for _, tt := range []struct {
		multiplier uint8
		low, high  float64
	}{{3, 0.75, 1}, {1, 0.75, 0.90}} {
		w := newWire(every(100*ms, tt.multiplier), every(100*ms, 5))
		w.run(5 * time.Second)
		w.want(t, "Up Up")
		var gaps []time.Duration
		for range 500 {
			sent, at := w.sent[0], w.now
			for w.sent[0] == sent {
				w.run(ms / 10)
			}
			gaps = append(gaps, w.now.Sub(at))
		}
		gaps = gaps[1:]
		low, high := slices.Min(gaps), slices.Max(gaps)
		if least, most := time.Duration(tt.low*float64(100*ms)), time.Duration(tt.high*float64(100*ms)); low < least-ms/5 || high > most+ms/5 {
			t.Errorf("multiplier %d: intervals from %s to %s, want %s to %s", tt.multiplier, low, high, least, most)
		} else if high-low < (most-least)/2 {
			t.Errorf("multiplier %d: intervals from %s to %s do not vary", tt.multiplier, low, high)
		}
	}
}

func TestSlowWhileNotUp(t *testing.T) {
	w := newWire(every(50*ms, 3), every(50*ms, 3))
	w.lose = func(int) bool { return true }
	w.run(time.Minute)
	// "not less than one second", less a jitter of a quarter.
	if w.sent[0] < 58 || w.sent[0] > 82 {
		t.Errorf("%d packets in a minute of silence", w.sent[0])
	}
	if w.last[0].DesiredMinTx != time.Second || w.last[0].RequiredMinRx != 50*ms || w.last[0].Your != 0 {
		t.Errorf("a lonely session says %+v", w.last[0])
	}
}

func TestPassiveWaits(t *testing.T) {
	passive := every(50*ms, 3)
	passive.Passive = true
	w := newWire(passive, passive)
	w.run(time.Minute)
	w.want(t, "Down Down")
	if w.sent != [2]int{} {
		t.Errorf("two passive sessions sent %v packets", w.sent)
	}
	w.set(1, every(50*ms, 3))
	w.run(2 * time.Second)
	w.want(t, "Up Up")
}

func TestShutIsNoFailure(t *testing.T) {
	w := newWire(every(50*ms, 3), every(50*ms, 3))
	w.run(5 * time.Second)
	w.want(t, "Up Up")
	w.step(1, bfd.Event{Kind: bfd.Shut})
	if !w.ends[1].Done(w.now) || w.last[1].State != bfd.AdminDown || w.last[1].Diag != bfd.DiagAdminDown {
		t.Errorf("the one that leaves says %+v", w.last[1])
	}
	w.run(10 * ms)
	w.want(t, "Down AdminDown")
	if st := w.ends[0].Status(); !st.RemoteLeft || st.Diag != bfd.DiagNeighborDown {
		t.Errorf("the one that stays says %+v", st)
	}
	// Nor is the silence that follows.
	w.run(time.Hour)
	if st := w.ends[0].Status(); !st.RemoteLeft || !st.WasUp {
		t.Errorf("after an hour: %+v", st)
	}
	// Nor is it one if the peer is about to return and then is silent.
	w.step(0, bfd.Event{Kind: bfd.Received, Packet: &bfd.Packet{State: bfd.Down, DetectMultiplier: 3, My: 2, DesiredMinTx: time.Second, RequiredMinRx: 50 * ms}})
	w.run(time.Minute)
	if st := w.ends[0].Status(); !st.RemoteLeft {
		t.Errorf("after a short return: %+v", st)
	}
	// It may come back.
	w.set(1, every(50*ms, 3))
	w.run(5 * time.Second)
	w.want(t, "Up Up")
	if w.ends[0].Status().RemoteLeft {
		t.Error("the peer still counts as gone")
	}
}

// A slow session takes long enough to leave that it repeats itself.
func TestShutLastsADetectionTime(t *testing.T) {
	w := newWire(every(2*time.Second, 3), every(2*time.Second, 3))
	w.run(20 * time.Second)
	w.want(t, "Up Up")
	before := w.sent[1]
	w.step(1, bfd.Event{Kind: bfd.Shut})
	if w.ends[1].Done(w.now) {
		t.Error("done at once")
	}
	w.run(time.Minute)
	if n := w.sent[1] - before; n < 3 || n > 5 || !w.ends[1].Done(w.now) {
		t.Errorf("%d packets said AdminDown within the 6 s of the detection time", n)
	}
}

// RFC 5880, section 6.8.3: what makes the peer's life harder waits for its
// answer, what makes it easier does not.
func TestPollSequences(t *testing.T) {
	up := func(t *testing.T) *wire {
		w := newWire(every(100*ms, 3), every(100*ms, 3))
		w.run(5 * time.Second)
		w.want(t, "Up Up")
		if w.last[0].Poll || w.last[1].Poll {
			t.Fatal("a poll sequence does not end")
		}
		return w
	}
	deaf := func(w *wire) { w.lose = func(from int) bool { return from == 0 } }

	t.Run("slower transmission waits for final", func(t *testing.T) {
		w := up(t)
		deaf(w)
		w.set(0, every(200*ms, 3))
		if st := w.ends[0].Status(); st.Transmit != 100*ms || !w.last[0].Poll || w.last[0].DesiredMinTx != 200*ms {
			t.Errorf("before final: every %s, %+v", st.Transmit, w.last[0])
		}
		w.lose = func(int) bool { return false }
		w.run(200 * ms)
		if st := w.ends[0].Status(); st.Transmit != 200*ms || st.Detect != 600*ms {
			t.Errorf("after final: every %s, detection %s", st.Transmit, st.Detect)
		}
		w.run(time.Minute)
		w.want(t, "Up Up")
	})
	t.Run("faster transmission does not wait, shorter detection does", func(t *testing.T) {
		w := up(t)
		w.set(1, every(20*ms, 3))
		w.run(200 * ms)
		deaf(w)
		w.set(0, every(20*ms, 3))
		if st := w.ends[0].Status(); st.Transmit != 20*ms || st.Detect != 300*ms {
			t.Errorf("before final: every %s, detection %s", st.Transmit, st.Detect)
		}
		w.lose = func(int) bool { return false }
		w.run(200 * ms)
		if st := w.ends[0].Status(); st.Detect != 60*ms {
			t.Errorf("after final: detection %s", st.Detect)
		}
		w.run(time.Minute)
		w.want(t, "Up Up")
		if len(w.log[0])+len(w.log[1]) != 3 {
			t.Errorf("flapped: %v %v", w.log[0], w.log[1])
		}
	})
	t.Run("a second change asks again", func(t *testing.T) {
		w := up(t)
		w.set(0, every(200*ms, 3))
		w.set(0, every(400*ms, 3))
		w.run(3 * time.Second)
		if st := w.ends[0].Status(); st.Transmit != 400*ms || w.last[0].Poll {
			t.Errorf("every %s, %+v", st.Transmit, w.last[0])
		}
		w.want(t, "Up Up")
	})
}

// What FRR does: it says one second until it is Up, then asks for much less and
// counts at once. The packet that is planned must move.
func TestPeerThatSpeedsUp(t *testing.T) {
	s := bfd.New(begin, bfd.Config{Discriminator: 1, Seed: 1}, every(50*ms, 3))
	at := func(d time.Duration, p bfd.Packet) bfd.Output {
		return s.Step(begin.Add(d), bfd.Event{Kind: bfd.Received, Packet: &p})
	}
	p := bfd.Packet{State: bfd.Init, DetectMultiplier: 3, My: 9, Your: 1, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
	if out := at(0, p); len(out.Packets) != 1 || out.Packets[0].State != bfd.Up {
		t.Fatalf("an Init is answered with %+v", out.Packets)
	}
	p.State, p.Poll, p.DesiredMinTx, p.RequiredMinRx = bfd.Up, true, 50*ms, 50*ms
	out := at(10*ms, p)
	if len(out.Packets) != 1 || !out.Packets[0].Final || out.Packets[0].Poll {
		t.Fatalf("a poll is answered with %+v", out.Packets)
	}
	if wait := out.Next.Sub(begin.Add(10 * ms)); wait > 50*ms {
		t.Errorf("the next packet is %s away", wait)
	}
}

// The same without a poll, and so without a packet that sets the time anew.
func TestPeerThatWantsMore(t *testing.T) {
	s := bfd.New(begin, bfd.Config{Discriminator: 1, Seed: 1}, every(50*ms, 3))
	p := bfd.Packet{State: bfd.Init, DetectMultiplier: 3, My: 9, Your: 1, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
	s.Step(begin, bfd.Event{Kind: bfd.Received, Packet: &p})
	p.State, p.RequiredMinRx = bfd.Up, 50*ms
	now := begin.Add(10 * ms)
	if out := s.Step(now, bfd.Event{Kind: bfd.Received, Packet: &p}); len(out.Packets) != 0 || out.Next.Sub(now) > 50*ms {
		t.Errorf("sent %+v, the next packet is %s away", out.Packets, out.Next.Sub(now))
	}
}

func TestPeerThatWantsNothing(t *testing.T) {
	s := bfd.New(begin, bfd.Config{Discriminator: 1, Seed: 1}, every(50*ms, 3))
	p := bfd.Packet{State: bfd.Init, DetectMultiplier: 3, My: 9, Your: 1, DesiredMinTx: 50 * ms}
	s.Step(begin, bfd.Event{Kind: bfd.Received, Packet: &p})
	for d := time.Duration(0); d < time.Second; d += 10 * ms {
		if out := s.Step(begin.Add(d), bfd.Event{Kind: bfd.Received, Packet: &p}); len(out.Packets) != 0 {
			t.Fatalf("after %s it hears %+v, although its required interval is zero", d, out.Packets)
		}
	}
}

// Packets that arrived in time count, however late they are read; and a session
// that was deaf starts to count anew.
func TestSilenceIsJudgedByArrival(t *testing.T) {
	up := func() *wire {
		w := newWire(every(100*ms, 3), every(100*ms, 3))
		w.run(5 * time.Second)
		w.lose = func(int) bool { return true }
		return w
	}
	t.Run("arrived in time, read late", func(t *testing.T) {
		w := up()
		p := w.last[1]
		arrived := w.now.Add(250 * ms)
		w.now = w.now.Add(500 * ms)
		w.step(0, bfd.Event{Kind: bfd.Received, Packet: &p, At: arrived})
		out := w.step(0, bfd.Event{Kind: bfd.Tick})
		if w.ends[0].Status().State != bfd.Up {
			t.Error("it is down")
		}
		if want := arrived.Add(300 * ms); !w.ends[0].Expires().Equal(want) || out.Next.After(want) {
			t.Errorf("it expires at %s, want %s", w.ends[0].Expires(), want)
		}
	})
	t.Run("deaf", func(t *testing.T) {
		w := up()
		w.now = w.now.Add(time.Second)
		w.step(0, bfd.Event{Kind: bfd.Deaf})
		w.step(0, bfd.Event{Kind: bfd.Tick})
		w.run(299 * ms)
		if w.ends[0].Status().State != bfd.Up {
			t.Error("it is down before another detection time")
		}
		w.run(2 * ms)
		if w.ends[0].Status().State != bfd.Down {
			t.Error("it is not down after another detection time")
		}
	})
}

// When only echo packets fail, the session must not be up again before anybody
// has seen it down.
func TestEchoFailureIsSeen(t *testing.T) {
	p := every(300*ms, 3)
	p.Echo, p.EchoInterval = true, 50*ms
	w := newWire(p, every(300*ms, 3))
	w.set(1, bfd.Parameters{TransmitInterval: 300 * ms, ReceiveInterval: 300 * ms, DetectMultiplier: 3, EchoInterval: 50 * ms})
	w.run(5 * time.Second)
	w.want(t, "Up Up")
	if w.echoed[0] < 60 || w.echoed[1] != 0 {
		t.Fatalf("%v echo packets", w.echoed)
	}
	if st := w.ends[1].Status(); st.Transmit != time.Second {
		t.Errorf("control packets come every %s while echo packets watch, want 1s", st.Transmit)
	}
	w.loseEcho = true
	w.run(200 * ms)
	if st := w.ends[0].Status(); st.State != bfd.Down || st.Diag != bfd.DiagEchoFailed || st.Held != time.Second {
		t.Fatalf("%+v", st)
	}
	w.run(700 * ms)
	w.want(t, "Down Down")
	w.run(5 * time.Minute)
	// 1 s, 2 s, 4 s, ... one minute: it falls ever more rarely.
	if n := len(w.log[0]); n > 60 {
		t.Errorf("%d changes in five minutes", n)
	}
	w.loseEcho = false
	w.run(2 * time.Minute)
	w.want(t, "Up Up")
}

func TestStepDoesNotAllocate(t *testing.T) {
	for name, params := range map[string]bfd.Parameters{"plain": every(100*ms, 3), "signed": signed("secret", true)} {
		s, raw, step := hot(params)
		if n := testing.AllocsPerRun(1000, func() { step(s, raw) }); n != 0 {
			t.Errorf("%s: %v allocations for a packet in and one out", name, n)
		}
	}
}

// hot returns a session, memory for a packet, and what happens to the session
// with every packet of a peer.
func hot(params bfd.Parameters) (*bfd.Session, []byte, func(*bfd.Session, []byte)) {
	s := bfd.New(begin, bfd.Config{Discriminator: 1, Seed: 1}, params)
	now := begin
	p := bfd.Packet{State: bfd.Init, DetectMultiplier: 3, My: 9, Your: 1, DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms}
	if params.Auth.Key != "" {
		p.Auth = bfd.Auth{Type: bfd.MeticulousKeyedSHA1, KeyID: params.Auth.KeyID}
	}
	var got bfd.Packet
	return s, make([]byte, 0, bfd.MaxLen), func(s *bfd.Session, raw []byte) {
		now = now.Add(100 * ms)
		p.Auth.Sequence++
		raw = p.Append(raw[:0], params.Auth.Key)
		if err := bfd.Decode(raw, &got); err != nil {
			panic(err)
		}
		if out := s.Step(now, bfd.Event{Kind: bfd.Received, Packet: &got, Raw: raw}); out.Refused != nil {
			panic(out.Refused)
		}
		p.State = bfd.Up
		for _, sent := range s.Step(now, bfd.Event{Kind: bfd.Tick}).Packets {
			raw = sent.Append(raw[:0], params.Auth.Key)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	for name, params := range map[string]bfd.Parameters{"plain": every(100*ms, 3), "signed": signed("secret", true)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s, raw, step := hot(params)
			for b.Loop() {
				step(s, raw)
			}
		})
	}
}
