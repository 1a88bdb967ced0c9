package gobgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/observed"
)

const (
	// openTime is how long a peer may take to say OPEN, and then KEEPALIVE.
	openTime = time.Minute
	// sendTime is how long a peer may refuse to read before it counts as gone
	// (RFC 9687): this, or twice the hold time.
	sendTime = 8 * time.Minute
	// farewellTime bounds the sending of a NOTIFICATION.
	farewellTime = time.Second
	// upTime bounds what the library does between KEEPALIVE and Established.
	upTime = 2 * time.Second
)

// A gate stands between one peer and the library, for one connection.
type gate struct {
	peer    *net.TCPConn
	library *net.TCPConn
	lib     *library
	counts  *counts
	// check judges the peer's OPEN, choose then sets the terms.
	check  func(bgp.Open) (reason.Reason, string, *bgp.Notification)
	choose func(bgp.Open) error
	// changed is called when the state has.
	changed func(observed.SessionState)
	// hold is the hold time to offer; 0 switches the timers off.
	hold time.Duration

	sent, got bgp.Open
	extended  atomic.Bool
	up        atomic.Bool
	heard     atomic.Int64 // prefixes that the peer sent
	last      atomic.Int64 // when it sent anything, in Unix nanoseconds
	done      chan struct{}

	// mu guards the writing side of peer.
	mu     sync.Mutex
	broken bool

	// toldMu guards told, the prefixes that the peer has of us.
	toldMu sync.Mutex
	told   map[netip.Prefix]struct{}
	v4, v6 int

	// end is the first reason to stop.
	endOnce sync.Once
	end     ending
}

// ending is how a connection ended.
type ending struct {
	reason  reason.Reason
	message string
	// wasUp is true if the session had been established.
	wasUp bool
}

// run carries messages until the connection ends.
func (g *gate) run(ctx context.Context) ending {
	stop := context.AfterFunc(ctx, func() { g.finish(reason.SessionStopped, "The session was ended here.", nil) })
	defer stop()
	defer close(g.done)
	defer func() {
		_ = g.peer.Close()
		_ = g.library.Close()
	}()
	fromPeer := newReader(g.peer)
	if err := g.open(fromPeer); err != nil {
		g.fail(err, "said OPEN")
		return g.end
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { g.pumpLibrary() })
	g.pumpPeer(fromPeer)
	_ = g.library.Close()
	pumps.Wait()
	g.end.wasUp = g.up.Load()
	return g.end
}

// open exchanges the OPEN messages.
func (g *gate) open(from *reader) error {
	if err := g.write(g.sent.Append(nil)); err != nil {
		return err
	}
	g.counts.sent(bgp.OpenMessage)
	g.changed(observed.OpenSent)
	_ = g.peer.SetReadDeadline(time.Now().Add(openTime))
	m, err := from.next(false)
	if err != nil {
		return err
	}
	g.counts.received(m.kind)
	switch m.kind {
	case bgp.OpenMessage:
	case bgp.NotificationMessage:
		return g.notified(m.body)
	default:
		return &refused{&bgp.Notification{Code: bgp.FSMError, Subcode: bgp.UnexpectedInSent, Data: []byte{byte(m.kind)}}}
	}
	open, refusal := bgp.ParseOpen(m.body)
	if refusal != nil {
		return &refused{refusal}
	}
	g.got = open
	if why, message, refusal := g.check(open); refusal != nil {
		g.finish(why, message, refusal)
		return io.EOF
	}
	if err := g.choose(open); err != nil {
		return err
	}
	g.extended.Store(open.Extended && g.sent.Extended)
	open.HoldTime = g.holdFor(open)
	if _, err := g.library.Write(open.Append(nil)); err != nil {
		return fmt.Errorf("the library: %w", err)
	}
	g.changed(observed.OpenConfirm)
	return nil
}

// holdFor is the hold time that the library shall take for the peer's. It cannot
// be told to offer none.
func (g *gate) holdFor(open bgp.Open) time.Duration {
	if g.hold == 0 {
		return 0
	}
	return open.HoldTime
}

// pumpPeer judges what the peer sends, and hands the library its own copy.
func (g *gate) pumpPeer(from *reader) {
	for {
		m, err := from.next(g.extended.Load())
		if err != nil {
			g.fail(err, "closed the connection")
			return
		}
		g.last.Store(time.Now().UnixNano())
		g.counts.received(m.kind)
		if err := g.handle(m); err != nil {
			g.fail(err, "closed the connection")
			return
		}
	}
}

// handle judges one message of the peer's.
func (g *gate) handle(m message) error {
	switch m.kind {
	case bgp.KeepaliveMessage:
		if !g.up.Load() {
			return g.establish()
		}
		_, err := g.library.Write(bgp.AppendKeepalive(nil))
		return err
	case bgp.NotificationMessage:
		return g.notified(m.body)
	case bgp.OpenMessage:
		return g.unexpected(m.kind)
	}
	if !g.up.Load() {
		return g.unexpected(m.kind)
	}
	if m.kind == bgp.RefreshMessage {
		f, ok := bgp.ParseRefresh(m.body)
		if !ok || !g.carries(f) {
			return nil
		}
		_, err := g.library.Write(bgp.AppendRefresh(nil, f))
		return err
	}
	// Nothing is learnt, so an UPDATE is a sign of life, and a malformed one
	// harms nobody: RFC 7606 would have its routes withdrawn.
	count := 0
	bgp.Update(m.body, func(netip.Prefix) { count++ }, func(netip.Prefix) {})
	g.heard.Add(int64(count))
	_, err := g.library.Write(bgp.AppendKeepalive(nil))
	return err
}

// unexpected answers a message that has no place here (RFC 6608).
func (g *gate) unexpected(t bgp.MessageType) error {
	sub := uint8(bgp.UnexpectedInConfirm)
	if g.up.Load() {
		sub = bgp.UnexpectedInUp
	}
	return &refused{&bgp.Notification{Code: bgp.FSMError, Subcode: sub, Data: []byte{byte(t)}}}
}

// carries tells whether both sides exchange a family.
func (g *gate) carries(f bgp.Family) bool {
	if f == bgp.IPv4 {
		return g.sent.IPv4 && g.got.IPv4
	}
	return g.sent.IPv6 && g.got.IPv6
}

// establish passes on the KEEPALIVE that ends the opening. The ends of the
// peer's RIBs follow at once: after a restart the library would wait for them
// before it sends (RFC 4724, section 4.1), but what we send does not depend on
// what others sent.
func (g *gate) establish() error {
	g.lib.globals.RLock()
	defer g.lib.globals.RUnlock()
	out := bgp.AppendKeepalive(nil)
	if g.sent.GracefulRestart && g.got.GracefulRestart {
		for _, f := range []bgp.Family{bgp.IPv4, bgp.IPv6} {
			if g.carries(f) {
				out = bgp.AppendEndOfRIB(out, f)
			}
		}
	}
	if _, err := g.library.Write(out); err != nil {
		return err
	}
	timer := time.NewTimer(upTime)
	defer timer.Stop()
	select {
	case <-g.lib.established:
	case <-timer.C:
		return errors.New("the library does not come up")
	}
	_ = g.peer.SetReadDeadline(time.Time{})
	g.up.Store(true)
	g.changed(observed.Established)
	return nil
}

// pumpLibrary passes on what the library sends, and remembers what it told.
func (g *gate) pumpLibrary() {
	from := newReader(g.library)
	for {
		m, err := from.next(true)
		if err != nil {
			g.finish(reason.SessionStopped, "The session ended here.", nil)
			return
		}
		if m.kind == bgp.NotificationMessage {
			g.libraryEnds(bgp.ParseNotification(m.body))
			return
		}
		if m.kind == bgp.UpdateMessage {
			g.note(m.body)
		}
		if err := g.write(append(from.header[:], m.body...)); err != nil {
			g.fail(err, "closed the connection")
			return
		}
		g.counts.sent(m.kind)
	}
}

// libraryEnds ends the session as the library wants it: its hold timer expired.
func (g *gate) libraryEnds(n bgp.Notification) {
	if n.Code == bgp.HoldTimerExpired {
		g.finish(reason.HoldTimerExpired, fmt.Sprintf("The peer was silent for %s.", min(g.hold, g.got.HoldTime)), &n)
		return
	}
	g.finish(reason.SessionStopped, "The session was ended here: "+n.String()+".", &n)
}

// note remembers what an UPDATE of ours tells.
func (g *gate) note(body []byte) {
	g.toldMu.Lock()
	defer g.toldMu.Unlock()
	each := func(change int) func(netip.Prefix) {
		return func(p netip.Prefix) {
			if _, had := g.told[p]; had == (change > 0) {
				return
			}
			if change > 0 {
				g.told[p] = struct{}{}
			} else {
				delete(g.told, p)
			}
			if p.Addr().Is4() {
				g.v4 += change
			} else {
				g.v6 += change
			}
		}
	}
	bgp.Update(body, each(1), each(-1))
}

// prefixes counts what the peer was told.
func (g *gate) prefixes() (v4, v6 int) {
	g.toldMu.Lock()
	defer g.toldMu.Unlock()
	return g.v4, g.v6
}

// write sends whole messages to the peer.
func (g *gate) write(b []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken {
		return net.ErrClosed
	}
	_ = g.peer.SetWriteDeadline(time.Now().Add(max(sendTime, 2*g.hold)))
	n, err := g.peer.Write(b)
	// After a part of a message nothing that follows would be understood.
	g.broken = err != nil && n > 0
	return err
}

// notified ends the session that the peer has ended.
func (g *gate) notified(body []byte) error {
	n := bgp.ParseNotification(body)
	g.finish(reason.PeerNotification, "The peer says: "+n.String()+".", nil)
	return io.EOF
}

// fail ends the session for an error of one of its connections.
func (g *gate) fail(err error, did string) {
	r, refusedIt := errors.AsType[*refused](err)
	switch {
	case refusedIt:
		g.finish(reason.PeerMessageInvalid, "What the peer sent was answered with: "+r.with.String()+".", r.with)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		g.finish(reason.PeerHungUp, "The peer closed the connection without a word.", nil)
	case isTimeout(err) && !g.up.Load():
		g.finish(reason.PeerSilent, fmt.Sprintf("The peer accepted the connection but has not %s within %s.", did, openTime), nil)
	default:
		g.finish(reason.PeerHungUp, fmt.Sprintf("The connection broke: %s.", bare(err)), nil)
	}
}

// finish ends the session once, with a NOTIFICATION or without a word.
func (g *gate) finish(why reason.Reason, message string, n *bgp.Notification) {
	g.endOnce.Do(func() {
		g.end = ending{reason: why, message: message, wasUp: g.up.Load()}
		// Whoever writes now gives way.
		_ = g.peer.SetWriteDeadline(time.Now().Add(farewellTime / 4))
		g.mu.Lock()
		defer g.mu.Unlock()
		if n != nil && !g.broken {
			_ = g.peer.SetWriteDeadline(time.Now().Add(farewellTime))
			if _, err := g.peer.Write(n.Append(nil)); err == nil {
				g.counts.sent(bgp.NotificationMessage)
			}
			_ = g.peer.CloseWrite()
			// What the peer still sends is read, for a moment: otherwise the
			// kernel resets the connection and the farewell may be lost. One that
			// is silent sends nothing, and its end is told without delay.
			if why != reason.BFDSaysDown && why != reason.HoldTimerExpired {
				_ = g.peer.SetReadDeadline(time.Now().Add(farewellTime / 4))
				_, _ = io.Copy(io.Discard, g.peer)
			}
		}
		g.broken = true
		_ = g.peer.Close()
		_ = g.library.Close()
	})
}

// sides are the peer's address and ours. The zone of link-local ones is the
// interface's name, which package net may have forgotten or mistaken.
func sides(conn net.Conn, ifi string) (remote, local netip.Addr) {
	remote, local = addrOf(conn.RemoteAddr()), addrOf(conn.LocalAddr())
	for _, a := range []*netip.Addr{&remote, &local} {
		if ifi != "" && a.IsLinkLocalUnicast() && a.Is6() {
			*a = a.WithZone(ifi)
		}
	}
	return remote, local
}

// addrOf is the address of one side of a connection, with its zone.
func addrOf(a net.Addr) netip.Addr {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return t.AddrPort().Addr().Unmap()
}
