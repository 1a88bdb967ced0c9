package gobgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// opening keeps BFD away until the session is up, unless it sees the peer
// already: the router begins with BFD when it takes the connection, and anew when
// the session is up.
func (s *session) opening() {
	s.mu.Lock()
	changed := s.seen.Watch != s.watched
	s.seen.Watch = s.watched
	s.mu.Unlock()
	if changed {
		s.room.onChange()
	}
}

// talk runs one connection. An error is the library's.
func (s *session) talk(ctx context.Context, lib *library, p *primer, conn *net.TCPConn) error {
	s.opening()
	ready, err := p.take(ctx)
	if err != nil {
		_ = conn.Close()
		return err
	}
	want := s.config()
	remote, local := sides(conn, want.Interface)
	hold, _, _ := bgp.Timers(want.Peer)
	g := &gate{
		peer: conn, library: ready.conn, lib: lib, counts: &s.counts, hold: hold, sent: ready.open,
		told: make(map[netip.Prefix]struct{}), done: make(chan struct{}),
	}
	g.sent.HoldTime = hold
	g.check = func(o bgp.Open) (reason.Reason, string, *bgp.Notification) { return judge(want, o) }
	g.choose = func(o bgp.Open) error { return s.choose(lib, local, o) }
	g.changed = func(state observed.SessionState) { s.progress(g, state) }
	s.mu.Lock()
	s.seen.Remote, s.seen.Local = remote, local
	s.gate = g
	held, _ := s.hold.Step(time.Now(), s.failed)
	refuse := held || s.stopped
	s.mu.Unlock()
	var end ending
	if refuse {
		_, _ = conn.Close(), ready.conn.Close()
		end = ending{reason: reason.SessionStopped, message: "The session is not wanted now."}
	} else {
		end = g.run(ctx)
	}
	s.mu.Lock()
	s.gate = nil
	s.seen.Watch = s.met
	if end.wasUp {
		s.seen.LastDown = observed.SessionDown{At: time.Now(), Reason: end.reason, Message: end.message}
	}
	s.mu.Unlock()
	if end.wasUp {
		s.log.Warn("BGP session ended", "reason", end.reason, "message", end.message)
	} else if ctx.Err() == nil {
		s.log.Debug("BGP session did not come up", "reason", end.reason, "message", end.message)
	}
	s.report(s.resting(), end.reason, end.message)
	return nil
}

// judge decides whether the peer is the wanted one.
func judge(want desired.Session, o bgp.Open) (reason.Reason, string, *bgp.Notification) {
	badAS := &bgp.Notification{Code: bgp.OpenError, Subcode: bgp.BadPeerAS}
	if !bgp.AcceptsASN(want.Peer, o.ASN) {
		expected := fmt.Sprintf("AS %d", want.PeerASN)
		switch {
		case want.PeerASN == 0 && bgp.External(want.Peer):
			expected = fmt.Sprintf("another AS than our own %d", bgp.ASN(want.Peer))
		case want.PeerASN == 0:
			expected = fmt.Sprintf("our own AS %d", bgp.ASN(want.Peer))
		}
		return reason.PeerASNDiffers, fmt.Sprintf("Expected %s, the peer says AS %d.", expected, o.ASN), badAS
	}
	// RFC 6286, section 2.1.
	if o.ID == want.ID && o.ASN == bgp.ASN(want.Peer) {
		return reason.PeerMessageInvalid, fmt.Sprintf("The peer has our own router ID %s.", o.ID),
			&bgp.Notification{Code: bgp.OpenError, Subcode: bgp.BadIdentifier}
	}
	// The library would take such a peer for one of IPv4 and tell it what it
	// never agreed to.
	if !(want.IPv4 && o.IPv4 || want.IPv6 && o.IPv6) {
		families := strings.Join(familyNames(want), " or ")
		return reason.PeerFamiliesDiffer, fmt.Sprintf("There is no address family in common: the session is for %s unicast, which the peer does not offer.", families),
			bgp.MissingFamilies(want.IPv4, want.IPv6)
	}
	return "", "", nil
}

// familyNames are those of the families that a session is for.
func familyNames(want desired.Session) []string {
	var names []string
	for _, f := range []struct {
		on bool
		f  bgp.Family
	}{{want.IPv4, bgp.IPv4}, {want.IPv6, bgp.IPv6}} {
		if f.on {
			names = append(names, f.f.String())
		}
	}
	return names
}

// choose sets what the session's paths depend on, before the library hears of
// the peer.
func (s *session) choose(lib *library, local netip.Addr, o bgp.Open) error {
	facts, err := localFacts(local)
	if err != nil {
		return err
	}
	s.mu.Lock()
	leaving, want := s.leaving, s.want
	s.mu.Unlock()
	hops := bgp.ChooseNextHops(facts, o.IPv4OverIPv6)
	s.mu.Lock()
	s.without = missing(want, o, hops)
	s.mu.Unlock()
	t := terms{hops: hops, external: o.ASN != bgp.ASN(want.Peer), leaving: leaving}
	return lib.agree(t)
}

// missing says which prefixes a session must leave out.
func missing(want desired.Session, o bgp.Open, hops bgp.NextHops) string {
	switch {
	case want.IPv6 && o.IPv6 && !hops.IPv6.IsValid():
		return "IPv6 prefixes are not announced: the node has no global IPv6 address to name as next hop."
	case want.IPv4 && o.IPv4 && !hops.IPv4.IsValid():
		return "IPv4 prefixes are not announced: the node has no IPv4 address to name as next hop, and the peer takes no IPv6 one (RFC 8950)."
	}
	return ""
}

// progress notes that a connection has come further.
func (s *session) progress(g *gate, state observed.SessionState) {
	s.mu.Lock()
	want := s.want
	s.seen.State, s.seen.Since = state, time.Now()
	if state == observed.Established {
		s.met, s.seen.Watch = true, true
		s.seen.Reason, s.seen.Message = "", s.without
		s.seen.RemoteASN, s.seen.RemoteID = g.got.ASN, g.got.ID
		s.seen.HoldTime, s.seen.KeepaliveTime = bgp.Negotiated(want.Peer, g.got.HoldTime)
		s.seen.IPv4, s.seen.IPv6 = g.carries(bgp.IPv4), g.carries(bgp.IPv6)
		s.seen.GracefulRestart = g.sent.GracefulRestart && g.got.GracefulRestart
	}
	seen := s.seen
	s.mu.Unlock()
	if state == observed.Established {
		s.room.established(want.Name)
		s.log.Info("BGP session established", "address", seen.Remote, "asn", seen.RemoteASN)
	}
	s.room.onChange()
}
