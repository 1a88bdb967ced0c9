package gobgp

import (
	"net/netip"
	"time"

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
	var h hopLimit
	h.send, h.least = bgp.HopLimits(want.Peer)
	send, least := bgp.HopLimits(was.Peer)
	key, hops := want.Key != was.Key, h.send != send || h.least != least
	switch {
	case !key && !hops:
	case !g.up.Load():
		// Half of the opening went by the old rules, and the peer may follow the
		// new ones already: what is on its way would be dropped until it gives up.
		s.anew(g)
	default:
		if key {
			s.room.all.Go(func() { s.rotate(g, want.Key) })
		}
		raw, err := g.peer.SyscallConn()
		if err == nil {
			err = control(raw, func(fd int) error { return h.set(fd, addrOf(g.peer.RemoteAddr()).Is6()) })
		}
		if err != nil {
			s.log.Warn("the session's socket does not take the change: it begins anew", "err", err)
			s.anew(g)
		}
	}
}

// anew ends a connection for a changed configuration; the next one follows.
func (s *session) anew(g *gate) {
	s.room.all.Go(func() {
		g.finish(reason.SessionStopped, "The configuration was changed here.",
			&bgp.Notification{Code: bgp.Cease, Subcode: bgp.OtherConfig})
	})
}

// rotate gives a connected socket a new key, when the peer has it: a router that
// changes its key lives on without a word, or says goodbye under the old one. So
// the old key stays until the peer falls silent, and the new one is tried before
// the hold time is over. The kernel takes it on a live connection.
func (s *session) rotate(g *gate, key string) {
	_, keepalive := bgp.Negotiated(s.config().Peer, g.got.HoldTime)
	if keepalive == 0 {
		keepalive = bgp.DefaultHold / 3
	}
	ticker := time.NewTicker(max(keepalive/10, 100*time.Millisecond))
	defer ticker.Stop()
	for time.Since(time.Unix(0, g.last.Load())) < keepalive+keepalive/2 {
		select {
		case <-g.done:
			return
		case <-ticker.C:
		}
		if s.config().Key != key {
			return // another rotation is under way
		}
	}
	raw, err := g.peer.SyscallConn()
	if err == nil {
		remote := addrOf(g.peer.RemoteAddr()).WithZone("")
		err = control(raw, func(fd int) error { return setKey(fd, netip.PrefixFrom(remote, remote.BitLen()), key) })
	}
	if err != nil {
		s.log.Warn("the session's socket does not take the new key", "err", err)
		return
	}
	s.log.Info("the session continues with its new key")
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
