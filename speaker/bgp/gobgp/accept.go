package gobgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/observed"
)

// accept gives a connection that came in to the session whose peer dialled: the
// one with its address, or a new one of the longest prefix that holds it. Others
// are closed without a word.
func (r *Room) accept(p port, conn *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	remote := addrOf(conn.RemoteAddr())
	s, longest := (*session)(nil), -1
	for _, c := range r.sessions {
		for _, q := range portsOf(c.config()) {
			if q.same(p) && q.peers.Contains(remote.WithZone("")) && q.peers.Bits() > longest {
				s, longest = c, q.peers.Bits()
			}
		}
	}
	if s == nil || r.closing || r.ctx == nil || !s.admits(conn) {
		r.log.Debug("nobody waits for this BGP connection", "address", remote)
		_ = conn.Close()
		return
	}
	if want := s.config(); want.Prefix.IsValid() {
		s = r.neighbor(s, remote)
		if s == nil {
			_ = conn.Close()
			return
		}
	}
	select {
	case s.inbound <- conn:
	default:
		_ = conn.Close()
	}
}

// admits tells whether a connection came to the right address, and prepares its
// socket.
func (s *session) admits(conn *net.TCPConn) bool {
	want := s.config()
	if want.Source.IsValid() && addrOf(conn.LocalAddr()).WithZone("") != want.Source {
		return false
	}
	s.mu.Lock()
	busy := s.gate != nil
	s.mu.Unlock()
	if busy {
		// The session that is there stays (RFC 4271, section 6.8); if its peer
		// is gone, the hold timer will say so.
		return false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var h hopLimit
	h.send, h.least = bgp.HopLimits(want.Peer)
	remote := addrOf(conn.RemoteAddr())
	return control(raw, func(fd int) error { return h.set(fd, remote.Is6()) }) == nil
}

// neighbor makes the session of a dynamic neighbour; nil if it has one, or if
// there are too many. mu is held.
func (r *Room) neighbor(of *session, remote netip.Addr) *session {
	want := of.config()
	count := 0
	for d := range r.dynamic {
		if d.peer != want.Name {
			continue
		}
		if count++; d.config().Address == remote {
			return nil
		}
	}
	if count >= maxNeighbors {
		r.log.Warn("too many dynamic neighbours", "peer", want.Name, "address", remote)
		return nil
	}
	peer := *want.Peer
	peer.Address = remote
	want.Peer = &peer
	s := newSession(r, want, r.routes[want.Name])
	s.seen.Dynamic, s.seen.Remote, s.once = true, remote, true
	r.dynamic[s] = struct{}{}
	s.setBFD(r.watch(s))
	r.all.Go(func() {
		s.run(r.ctx)
		r.mu.Lock()
		delete(r.dynamic, s)
		r.mu.Unlock()
		r.onChange()
	})
	return s
}

// maxNeighbors bounds the dynamic neighbours of one peer.
const maxNeighbors = 256

// portTaken says whether the port that the session needs could be opened.
func (s *session) portTaken(p port, err error) {
	if err != nil {
		where := ""
		if p.device != "" {
			where = " of device " + p.device
		}
		why := reason.PortTaken
		if errors.Is(err, unix.EACCES) {
			why = reason.PortForbidden // the container lacks the capability
		}
		s.report(observed.Blocked, why, fmt.Sprintf("Listening on TCP port %d%s failed: %s.", listenPort, where, bare(err)))
		return
	}
	s.mu.Lock()
	blocked := s.seen.State == observed.Blocked
	s.mu.Unlock()
	if blocked {
		s.report(observed.Active, reason.PeerAwaited, "Waiting for the peer to dial.")
	}
}
