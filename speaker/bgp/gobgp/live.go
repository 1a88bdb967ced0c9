package gobgp

import (
	"net/netip"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// adjust takes a configuration that differs only in what can change while the
// session is up.
func (s *session) adjust(want desired.Session) {
	s.mu.Lock()
	was, g := s.want, s.gate
	if s.once {
		peer := *want.Peer
		peer.Address = was.Address
		want.Peer = &peer
	}
	s.want = want
	s.mu.Unlock()
	if g == nil {
		poke(s.news) // a new key may be the right one: try at once
		return
	}
	raw, err := g.peer.SyscallConn()
	if err == nil {
		remote := addrOf(g.peer.RemoteAddr())
		err = control(raw, func(fd int) error {
			if want.Key != was.Key {
				// The kernel takes a new key on a live connection. The peer
				// drops what is signed with it until it has the key as well;
				// done within the hold time, the session does not notice.
				if err := setKey(fd, netip.PrefixFrom(remote.WithZone(""), remote.BitLen()), want.Key); err != nil {
					return err
				}
			}
			var h hopLimit
			h.send, h.least = bgp.HopLimits(want.Peer)
			return h.set(fd, remote.Is6())
		})
	}
	if err != nil {
		s.log.Warn("the session's socket does not take the change: it begins anew", "err", err)
		s.room.all.Go(func() {
			g.finish(reason.SessionStopped, "The configuration was changed here.",
				&bgp.Notification{Code: bgp.Cease, Subcode: bgp.OtherConfig})
		})
	}
}

// leave asks the peer to take other ways (RFC 8326); false if the session has no
// route to ask for.
func (s *session) leave() bool {
	s.mu.Lock()
	s.leaving = true
	g := s.gate
	up := s.seen.State == observed.Established
	s.mu.Unlock()
	if g == nil || !up {
		return false
	}
	if err := g.lib.leave(); err != nil {
		s.log.Warn("cannot ask the peer to take other ways", "err", err)
	}
	v4, v6 := g.prefixes()
	return v4+v6 > 0
}

// leave marks all paths for removal.
func (l *library) leave() error {
	l.mu.Lock()
	t := l.terms
	l.mu.Unlock()
	t.leaving = true
	return l.agree(t)
}
