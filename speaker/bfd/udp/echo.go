package udp

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
)

// echoKey names an echo socket.
type echoKey struct {
	index int
	local netip.Addr
}

// echoway is an open echo socket and how many sessions use it.
type echoway struct {
	*doorway
	socket echoSocket
	users  int
}

// sendEcho sends an echo packet. The socket is opened with the first one; a
// failure counts as a packet that did not come back.
func (r *Room) sendEcho(s *session, sequence uint32, now time.Time) {
	if s.out == nil || s.index == 0 {
		return
	}
	if s.echo == nil && !r.openEcho(s) {
		return
	}
	payload := bfd.AppendEcho(r.buf[:0], s.bfd.Status().Local, sequence, r.secret)
	if err := s.echo.socket.Send(s.key.Remote, payload); err != nil {
		r.log.Debug("cannot send a BFD echo packet", "peer", label(s.key), "err", err)
		return
	}
	s.echoOut++
}

func (r *Room) openEcho(s *session) bool {
	key := echoKey{s.index, s.out.Local()}
	w := r.echoes[key]
	if w == nil {
		socket, err := r.kernel.Echo(key.index, key.local)
		if err != nil {
			r.log.Warn("cannot send BFD echo packets", "peer", label(s.key), "err", err)
			return false
		}
		w = &echoway{doorway: r.watch(socket, "echo", r.receiveEcho), socket: socket}
		r.echoes[key] = w
	}
	w.users++
	s.echo = w
	return true
}

// dropEcho closes the echo socket of a session if no other uses it.
func (r *Room) dropEcho(s *session) {
	w := s.echo
	if w == nil {
		return
	}
	s.echo = nil
	if w.users--; w.users > 0 {
		return
	}
	r.closing = append(r.closing, w.socket)
	for key, o := range r.echoes {
		if o == w {
			delete(r.echoes, key)
		}
	}
}

// receiveEcho notes a packet of ours that came back.
func (r *Room) receiveEcho(g *datagram, now time.Time) {
	discr, sequence, ok := bfd.DecodeEcho(g.Payload, r.secret)
	// One router, the peer, has forwarded it.
	if !ok || g.TTL < 254 {
		return
	}
	s := r.byDiscr[discr]
	if s == nil || s.echo == nil {
		return
	}
	s.echoIn++
	r.stepSession(s, now, bfd.Event{Kind: bfd.EchoReturned, Echo: sequence})
}
