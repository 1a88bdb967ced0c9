package udp

import (
	"iter"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/observed"
)

// grain is the distance of the moments at which packets are sent and, while
// they come fast, read: waking up is what costs, and many sessions share it.
const grain = 4 * time.Millisecond

// doorway is a receiving socket in use.
type doorway struct {
	in     inlet
	name   string
	handle func(*datagram) // made once: reading allocates nothing
	now    time.Time       // of the read that is going on
	failed bool            // the last read failed
	// woken is when packets last woke the socket's goroutine; poll is when to
	// read without being woken, zero while it is awaited.
	woken, poll time.Time
}

// read judges all that has arrived, and says how much it was.
func (r *Room) read(w *doorway, now time.Time) int {
	w.now = now
	n, err := w.in.Drain(w.handle)
	if err != nil && !w.failed {
		r.log.Warn("cannot receive BFD packets", "socket", w.name, "err", err)
	}
	w.failed = err != nil
	return n
}

// watch begins to read a socket.
func (r *Room) watch(in inlet, name string, handle func(*datagram, time.Time)) *doorway {
	w := &doorway{in: in, name: name}
	w.handle = func(g *datagram) { handle(g, w.now) }
	r.readers.Go(func() {
		if err := in.Await(func() { r.arrived(w) }); err != nil {
			r.log.Error("BFD packets are only read when something is due", "socket", name, "err", err)
		}
	})
	return w
}

// arrived is called by the goroutine of a socket.
func (r *Room) arrived(w *doorway) {
	r.mu.Lock()
	before, now := r.timers.first(), time.Now()
	r.read(w, now)
	fast := now.Sub(w.woken) < 2*grain
	w.woken = now
	if fast {
		w.poll = r.tick(now)
	} else {
		_ = w.in.Arm()
	}
	first, notify := r.timers.first(), r.takeChanged()
	r.mu.Unlock()
	if fast || !first.IsZero() && (before.IsZero() || first.Before(before)) {
		r.poke()
	}
	if notify && r.onChange != nil {
		r.onChange()
	}
}

// tick is the next moment of the grain.
func (r *Room) tick(now time.Time) time.Time {
	return now.Add(grain - now.Sub(r.epoch)%grain)
}

// poll reads the sockets whose packets come fast, and returns when to do so
// again, zero if all are awaited.
func (r *Room) poll(now time.Time) (next time.Time) {
	for w := range r.sockets() {
		if w.poll.IsZero() {
			continue
		}
		if !w.poll.After(now) {
			w.poll = r.tick(now)
			if r.read(w, now) == 0 {
				w.poll = time.Time{}
				_ = w.in.Arm()
				continue
			}
		}
		if next.IsZero() || w.poll.Before(next) {
			next = w.poll
		}
	}
	return next
}

// sockets are all that are read.
func (r *Room) sockets() iter.Seq[*doorway] {
	return func(yield func(*doorway) bool) {
		for _, w := range r.doors {
			if !yield(w) {
				return
			}
		}
		for _, w := range r.echoes {
			if !yield(w.doorway) {
				return
			}
		}
	}
}

// receive judges one packet.
func (r *Room) receive(d door, g *datagram, now time.Time) {
	p := &r.packet
	if err := bfd.Decode(g.Payload, p); err != nil {
		r.metrics.dropped.malformed++
		return
	}
	s := r.find(d, g, p)
	if s == nil {
		r.metrics.dropped.unknown++
		return
	}
	if !farEnough(s, g.TTL) {
		s.refused(errTTL)
		r.metrics.dropped.ttl++
		return
	}
	s.controlIn++
	s.index = g.Index
	r.stepSession(s, now, bfd.Event{Kind: bfd.Received, Packet: p, Raw: g.Payload, At: g.At})
}

// farEnough: a packet of a neighbour has not been forwarded: "the received TTL
// or Hop Limit value MUST be 255" or the packet is discarded (RFC 5881,
// section 5). Through several hops the operator says how many (RFC 5883,
// section 6, leaves it open).
func farEnough(s *session, ttl int) bool {
	if !s.key.Multihop {
		return ttl == 255
	}
	return ttl >= int(s.params.MinimumTTL)
}

// find is RFC 5880, section 6.3: the packet's word for us decides; only if it has
// none, addresses and interface do (RFC 5881, section 3). A packet that claims to
// be of a session must come from its peer all the same.
func (r *Room) find(d door, g *datagram, p *bfd.Packet) *session {
	if p.Your != 0 {
		s := r.byDiscr[p.Your]
		if s == nil || s.door != d || s.key.Remote != g.From || !s.comesBy(g) {
			return nil
		}
		return s
	}
	var best *session
	for _, s := range r.byRemote[g.From] {
		// Without a sending socket it has not begun.
		if s.bfd == nil || s.door != d || !s.comesBy(g) || s.key.Local.IsValid() && s.key.Local != g.To {
			continue
		}
		if best == nil || specific(s.key) > specific(best.key) {
			best = s
		}
	}
	return best
}

// specific prefers sessions that say more of where they are.
func specific(p observed.BFDPeer) int {
	n := 0
	if p.Local.IsValid() {
		n++
	}
	if p.Interface != "" {
		n += 2
	}
	return n
}
