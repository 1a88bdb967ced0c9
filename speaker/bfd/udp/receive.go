package udp

import (
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/observed"
)

// doorway is an open door.
type doorway struct {
	in     inlet
	handle func(*datagram) // made once: reading allocates nothing
	now    time.Time       // of the read that is going on
	failed bool            // the last read failed
}

// read judges all that has arrived at a door.
func (r *Room) read(d door, w *doorway, now time.Time) {
	w.now = now
	err := w.in.Drain(w.handle)
	if err != nil && !w.failed {
		r.log.Warn("cannot receive BFD packets", "port", d.port(), "err", err)
	}
	w.failed = err != nil
}

// arrived is called by the goroutine of a door.
func (r *Room) arrived(d door, w *doorway) {
	r.mu.Lock()
	before := r.timers.first()
	r.read(d, w, time.Now())
	first, notify := r.timers.first(), r.takeChanged()
	r.mu.Unlock()
	if !first.IsZero() && (before.IsZero() || first.Before(before)) {
		r.poke()
	}
	if notify && r.onChange != nil {
		r.onChange()
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
