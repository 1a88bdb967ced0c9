package udp

import (
	"context"
	"io"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
)

const (
	// farewell bounds how long Run stays to tell peers AdminDown.
	farewell = time.Second
	// late is how far behind its plan the loop counts as held up. The packets of
	// the peers are then likely to be held up in the kernel as well, so they get
	// as much time again before silence counts.
	late = 10 * time.Millisecond
)

// Run keeps the sessions until ctx ends; then it tells all peers AdminDown and
// returns nil after its goroutines have ended.
func (r *Room) Run(ctx context.Context) error {
	defer func() {
		r.mu.Lock()
		r.closeAll()
		closing := r.takeClosing()
		r.mu.Unlock()
		closeThem(closing)
		r.readers.Wait()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	done, end := ctx.Done(), time.Time{}
	for planned := time.Now(); ; {
		select {
		case <-done:
			done, end = nil, time.Now().Add(farewell)
		case <-r.wake:
		case <-timer.C:
		}
		now := time.Now()
		r.mu.Lock()
		if done != nil {
			r.apply(now)
		} else {
			r.leave(now)
		}
		polled := r.poll(now)
		r.step(now, planned)
		planned = sooner(r.timers.first(), polled)
		over := done == nil && (len(r.leaving) == 0 || !now.Before(end))
		notify, closing := r.takeChanged(), r.takeClosing()
		r.mu.Unlock()
		closeThem(closing)
		if notify && r.onChange != nil {
			r.onChange()
		}
		if over {
			return nil
		}
		if done == nil && (planned.IsZero() || planned.After(end)) {
			planned = end
		}
		if planned.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(planned))
		}
	}
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (r *Room) takeChanged() bool {
	was := r.changed
	r.changed = false
	return was
}

func (r *Room) takeClosing() []io.Closer {
	closing := r.closing
	r.closing = nil
	return closing
}

func closeThem(closing []io.Closer) {
	for _, c := range closing {
		_ = c.Close()
	}
}

// step does what is due at now.
func (r *Room) step(now, planned time.Time) {
	r.open(now)
	drained := false
	for len(r.timers) > 0 && !r.timers.first().After(now) {
		s := r.timers[0]
		if s.bfd == nil {
			// open has set another time, or made it a session.
			r.timers.set(s, now.Add(retryLeast))
			continue
		}
		if expires := s.bfd.Expires(); !expires.IsZero() && !expires.After(now) {
			if !drained {
				drained = true
				r.drain(now)
				continue
			}
			if held := !planned.IsZero() && now.Sub(planned) > late; held && !s.spared.Equal(expires) {
				s.spared = expires
				r.timers.set(s, now.Add(late))
				continue
			}
			if r.deaf(s) {
				r.stepSession(s, now, bfd.Event{Kind: bfd.Deaf})
				continue
			}
		}
		r.stepSession(s, now, bfd.Event{Kind: bfd.Tick})
	}
	for s := range r.leaving {
		if s.bfd.Done(now) {
			r.discard(s)
		}
	}
}

// drain reads all that has arrived.
func (r *Room) drain(now time.Time) {
	for w := range r.sockets() {
		r.read(w, now)
	}
}

// deaf tells whether the kernel had to throw packets of the session's door away
// since the last time that it was asked about the session.
func (r *Room) deaf(s *session) bool {
	w := r.doors[s.door]
	if w == nil {
		return false
	}
	drops := w.in.Drops()
	if drops == s.drops {
		return false
	}
	s.drops = drops
	r.log.Warn("packets were lost because the speaker did not read them in time; BFD sessions get another detection time", "peer", label(s.key))
	return true
}

// stepSession steps a session and does what it says.
func (r *Room) stepSession(s *session, now time.Time, e bfd.Event) {
	out := s.bfd.Step(now, e)
	for i := range out.Packets {
		r.transmit(s, &out.Packets[i], now)
	}
	if out.Echo {
		r.sendEcho(s, out.EchoSequence, now)
	}
	if out.Refused != nil {
		s.refused(out.Refused)
		r.metrics.refused(out.Refused)
	}
	if out.Changed {
		r.note(s, now)
	}
	r.timers.set(s, out.Next)
}

// transmit sends a packet. A failure is like a loss on the way; the socket is
// replaced, because its address or interface may have gone.
func (r *Room) transmit(s *session, p *bfd.Packet, now time.Time) {
	if s.out == nil && !r.redial(s, now) {
		return
	}
	r.buf = p.Append(r.buf[:0], s.params.Auth.Key)
	if err := s.out.Send(r.buf); err != nil {
		s.sendFailed(err)
		r.changed = true
		_ = s.out.Close()
		s.out = nil
		return
	}
	if s.trouble != nil {
		s.trouble, r.changed = nil, true
	}
	s.controlOut++
}
