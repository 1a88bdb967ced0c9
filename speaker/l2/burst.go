package l2

import (
	"container/heap"
	"net/netip"
	"time"
)

// burstAt are the moments, after a takeover, at which an address is announced.
// The early ones bridge a lost first frame; the later ones are MetalLB's
// rhythm, for switches that learn slowly.
var burstAt = []time.Duration{
	0, 100 * time.Millisecond, 300 * time.Millisecond,
	1100 * time.Millisecond, 2200 * time.Millisecond, 3300 * time.Millisecond, 4400 * time.Millisecond,
}

// defenceAt are the moments at which a contested address is announced again: it
// is no takeover, so once, and once more for a lost frame.
var defenceAt = []time.Duration{0, 300 * time.Millisecond}

const (
	// defendAfter is how long an address that another station announces is left
	// alone. At a handover both may own it for a moment, and one lets go.
	defendAfter = time.Second
	// defendInterval is DEFEND_INTERVAL of RFC 5227 section 1.1. A host that
	// keeps its address whatever happens must not defend it more often, section
	// 2.4: "This is necessary to ensure that two misconfigured hosts do not get
	// stuck in an endless loop flooding the network with broadcast traffic while
	// they both try to defend the same address." Unlike there, a conflict within
	// the interval is answered at its end rather than never: the other station's
	// last frame must not be the last word.
	defendInterval = 10 * time.Second
	// framesPerSecond bounds what takeovers send: 5,000 addresses are all
	// announced within half a second, and a segment's stations see fewer
	// broadcasts than storm control cuts off.
	framesPerSecond = 10_000
	// tick is how often a long queue is served, so one tick's frames are a
	// batch of framesPerSecond × tick.
	tick = 5 * time.Millisecond
)

// A target is one address on one interface.
type target struct {
	addr  netip.Addr
	index int
}

// hash spreads the periodic refresh of targets.
func (t target) hash() uint64 {
	return uint64(shardOf(t.addr))<<32*0x9e37 ^ uint64(t.index)*0x9e3779b97f4a7c15 ^ uint64(lowWord(t.addr))*0xc2b2ae3d27d4eb4f
}

// A shot is one frame to send now. Form tells the forms of a family apart: for
// IPv4, 0 is the request and 1 the reply.
type shot struct {
	target
	form int
}

// A burster decides when which target is announced. It sends nothing and reads
// no clock. The first frame of every target goes before anything else.
type burster struct {
	refresh time.Duration // 0 = none
	items   map[target]*burst
	first   []*burst // targets whose first frame is not sent, in order of arrival
	later   burstHeap
	tokens  float64
	filled  time.Time
}

// A burst is the state of one target.
type burst struct {
	target
	start time.Time
	due   time.Time
	// rounds are the moments after start.
	rounds []time.Duration
	// step counts the frames of the burst that are sent; after the last round
	// the target is in its periodic refresh and step only tells the form.
	step int
	// defended is the start of the last defence, zero if there was none.
	defended time.Time

	place   int // in the heap, −1 elsewhere
	stopped bool
}

func newBurster(refresh time.Duration) *burster {
	return &burster{refresh: refresh, items: make(map[target]*burst)}
}

// forms is how many kinds of frames announce the target.
func (b *burst) forms() int {
	if b.addr.Is4() {
		return 2
	}
	return 1
}

// bursting tells whether a round of the burst is still to come.
func (b *burst) bursting() bool { return b.step/b.forms() < len(b.rounds) }

// Start begins a burst now, anew if one is under way.
func (s *burster) Start(now time.Time, t target) {
	s.Stop(t)
	b := &burst{target: t, start: now, due: now, rounds: burstAt, place: -1}
	s.items[t] = b
	s.first = append(s.first, b)
}

// Defend plans that a target is announced again, because another station
// announces it too. A burst that is planned or under way does that anyway.
func (s *burster) Defend(now time.Time, t target) {
	start := now.Add(defendAfter)
	if old := s.items[t]; old != nil {
		if old.bursting() {
			return
		}
		if soonest := old.defended.Add(defendInterval); start.Before(soonest) {
			start = soonest
		}
	}
	s.Stop(t)
	b := &burst{target: t, start: start, due: start, rounds: defenceAt, defended: start, place: -1}
	s.items[t] = b
	heap.Push(&s.later, b)
}

// Stop ends everything for a target.
func (s *burster) Stop(t target) {
	b := s.items[t]
	if b == nil {
		return
	}
	delete(s.items, t)
	b.stopped = true
	if b.place >= 0 {
		heap.Remove(&s.later, b.place)
	}
}

// Next appends to shots the frames to send now, as many as the pace allows,
// and returns when to ask again; the zero time means never.
func (s *burster) Next(now time.Time, shots []shot) ([]shot, time.Time) {
	s.fill(now)
	for s.tokens >= 1 {
		b := s.pop(now)
		if b == nil {
			break
		}
		s.tokens--
		shots = append(shots, shot{b.target, b.step % b.forms()})
		s.advance(now, b)
	}
	switch {
	case s.ready(now):
		return shots, now.Add(tick)
	case len(s.later) > 0:
		return shots, s.later[0].due
	}
	return shots, time.Time{}
}

// fill adds the tokens of the time that has passed.
func (s *burster) fill(now time.Time) {
	const most = framesPerSecond * float64(tick) / float64(time.Second)
	s.tokens += now.Sub(s.filled).Seconds() * framesPerSecond
	if s.filled.IsZero() || s.tokens > most {
		s.tokens = most
	}
	s.filled = now
}

// ready tells whether anything is due.
func (s *burster) ready(now time.Time) bool {
	for len(s.first) > 0 && s.first[0].stopped {
		s.first = s.first[1:]
	}
	if len(s.first) == 0 {
		s.first = nil
	}
	return len(s.first) > 0 || len(s.later) > 0 && !s.later[0].due.After(now)
}

// pop takes the next target that is due, nil if none is.
func (s *burster) pop(now time.Time) *burst {
	if !s.ready(now) {
		return nil
	}
	if len(s.first) > 0 {
		b := s.first[0]
		s.first = s.first[1:]
		return b
	}
	return heap.Pop(&s.later).(*burst)
}

// advance plans the target's next frame. A burst that the pace has delayed
// skips the rounds whose moment is over.
func (s *burster) advance(now time.Time, b *burst) {
	b.step++
	if b.step%b.forms() != 0 {
		b.due = now
		heap.Push(&s.later, b)
		return
	}
	for ; b.bursting(); b.step += b.forms() {
		if due := b.start.Add(b.rounds[b.step/b.forms()]); due.After(now) {
			b.due = due
			heap.Push(&s.later, b)
			return
		}
	}
	if s.refresh <= 0 {
		// What was defended must be known at the next conflict.
		if b.defended.IsZero() {
			delete(s.items, b.target)
		}
		return
	}
	b.due = nextRefresh(now, s.refresh, b.hash())
	heap.Push(&s.later, b)
}

// nextRefresh is the target's own moment in the period, the first one at least
// half a period away.
func nextRefresh(now time.Time, period time.Duration, hash uint64) time.Time {
	phase := time.Duration(hash % uint64(period))
	base := now.Add(period / 2)
	wait := (phase - time.Duration(base.UnixNano()%int64(period)) + period) % period
	return base.Add(wait)
}

// burstHeap orders bursts by when they are due.
type burstHeap []*burst

func (h burstHeap) Len() int           { return len(h) }
func (h burstHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h burstHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push adds a *burst; it is for the heap package.
func (h *burstHeap) Push(x any) {
	b := x.(*burst)
	b.place = len(*h)
	*h = append(*h, b)
}

// Pop removes the last *burst; it is for the heap package.
func (h *burstHeap) Pop() any {
	last := len(*h) - 1
	b := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	b.place = -1
	return b
}
