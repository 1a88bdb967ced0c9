//go:build netns

package gobgp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// oddOpen is the OPEN of an odd peer, octet by octet.
type oddOpen struct {
	version byte
	as      uint16
	hold    uint16
	params  []byte
	// length is the octet before the parameters, if it is not their length.
	length byte
}

// normal is what most of the odd peers say, but for their parameters.
func normal(params ...[]byte) oddOpen {
	return oddOpen{version: 4, as: 64999, hold: 90, params: slices.Concat(params...)}
}

// param is an optional parameter; capability is one with one capability.
func param(kind byte, value ...byte) []byte {
	return append([]byte{kind, byte(len(value))}, value...)
}

func capability(code byte, value ...byte) []byte { return param(2, param(code, value...)...) }

// family is the capability of a family.
func family(afi, safi byte) []byte { return capability(1, 0, afi, 0, safi) }

// message is the whole OPEN.
func (o oddOpen) message(id netip.Addr) []byte {
	body := []byte{o.version}
	body = binary.BigEndian.AppendUint16(body, o.as)
	body = binary.BigEndian.AppendUint16(body, o.hold)
	body = append(body, id.AsSlice()...)
	if o.length == 0 {
		o.length = byte(len(o.params))
	}
	body = append(append(body, o.length), o.params...)
	return append(bgp.AppendHeader(nil, bgp.OpenMessage, len(body)), body...)
}

// raw is a message of any type and with any body.
func raw(kind byte, body ...byte) []byte {
	return append(bgp.AppendHeader(nil, bgp.MessageType(kind), len(body)), body...)
}

// bigUpdate is an UPDATE of about n octets: one attribute that nobody knows, and
// 198.51.100.0/24.
func bigUpdate(n int) []byte {
	attributes := []byte{
		0x40, 1, 1, 0, // ORIGIN
		0x40, 2, 0, // AS_PATH
		0x40, 3, 4, 10, 0, 1, 1, // NEXT_HOP
		0xd0, 0x99,
	}
	attributes = binary.BigEndian.AppendUint16(attributes, uint16(n))
	attributes = append(attributes, make([]byte, n)...)
	body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attributes)))
	return raw(2, append(append(body, attributes...), 24, 198, 51, 100)...)
}

// oddPeer plays one peer: OPEN, KEEPALIVE, and what it then says once. It keeps
// the session alive and notes what it hears.
type oddPeer struct {
	open []byte
	// slowly sends the OPEN octet by octet.
	slowly bool
	says   [][]byte

	mu       sync.Mutex // guards what follows
	farewell *bgp.Notification
	told     map[netip.Prefix]bool
	conn     net.Conn
}

// serve plays all connections until the listener is closed.
func (p *oddPeer) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conn = conn
		p.told = make(map[netip.Prefix]bool)
		p.mu.Unlock()
		stop := make(chan struct{})
		var writer sync.WaitGroup
		writer.Go(func() { p.talk(conn, stop) })
		_ = p.listen(conn)
		close(stop)
		_ = conn.Close()
		writer.Wait()
	}
}

// talk writes until stop is closed.
func (p *oddPeer) talk(conn net.Conn, stop <-chan struct{}) {
	chunk := len(p.open)
	if p.slowly {
		chunk = 1
	}
	for part := range slices.Chunk(p.open, chunk) {
		if _, err := conn.Write(part); err != nil {
			return
		}
	}
	said := bgp.AppendKeepalive(nil)
	// The session is up when its first KEEPALIVE was taken, so what follows may
	// come with it.
	said = append(said, slices.Concat(p.says...)...)
	for {
		if _, err := conn.Write(said); err != nil {
			return
		}
		said = bgp.AppendKeepalive(nil)
		select {
		case <-stop:
			return
		case <-time.After(time.Second):
		}
	}
}

// listen reads until the connection ends.
func (p *oddPeer) listen(conn net.Conn) error {
	r := newReader(conn)
	for {
		m, err := r.next(true)
		if err != nil {
			return err
		}
		p.mu.Lock()
		switch m.kind {
		case bgp.UpdateMessage:
			bgp.Update(m.body, func(a netip.Prefix) { p.told[a] = true }, func(a netip.Prefix) { delete(p.told, a) })
		case bgp.NotificationMessage:
			n := bgp.ParseNotification(slices.Clone(m.body))
			p.farewell = &n
		}
		p.mu.Unlock()
	}
}

// knows tells whether the peer was told a prefix.
func (p *oddPeer) knows(prefix string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.told[netip.MustParsePrefix(prefix)]
}

// heardFarewell is the last NOTIFICATION that it got, in words.
func (p *oddPeer) heardFarewell() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.farewell == nil {
		return ""
	}
	return p.farewell.String()
}

// Peers that say in their OPEN, or afterwards, what few do: those that may have
// their routes have them and keep their session, others are told what is wrong,
// and so is the operator.
func TestNetnsOddPeers(t *testing.T) {
	v4, v6, as4 := family(1, 1), family(2, 1), capability(65, 0, 0, 0xfd, 0xe7)
	extended := capability(6)
	strange := slices.Concat(
		capability(69, 0, 1, 1, 3, 0, 2, 1, 3),      // ADD-PATH, both ways
		capability(131, 0, 1), capability(68, 0, 1), // multisession, both kinds
		capability(9, 0),                                 // role
		capability(185), capability(128), capability(70), // operational, refreshes of other kinds
		capability(73, append([]byte{3}, "tor\x00"...)...), // host name
		capability(71, 0, 1, 1, 0x80, 0, 0, 60),            // long-lived graceful restart
		capability(199, make([]byte, 100)...),              // nobody's
		family(25, 70), family(1, 133), family(0x40, 4), v4, v4,
	)
	cases := []struct {
		name   string
		open   oddOpen
		id     string
		slowly bool
		says   [][]byte
		// heard counts the prefixes that we shall have heard.
		heard int
		// v4 and v6 are what a session carries; none if it is refused.
		v4, v6 bool
		// why and message are the operator's, farewell is the peer's.
		why               reason.Reason
		message, farewell string
	}{
		{name: "no parameters at all", open: normal(), v4: true},
		{name: "no families, but four octets of AS", open: normal(as4), v4: true},
		{name: "two octets of AS", open: normal(v4, v6), v4: true, v6: true},
		{name: "capabilities that we do not know", open: normal(v4, v6, as4, strange), v4: true, v6: true},
		{name: "all capabilities in one parameter", open: normal(param(2, slices.Concat(v4[2:], v6[2:], as4[2:])...)), v4: true, v6: true},
		{name: "long parameters", open: oddOpen{version: 4, as: 64999, hold: 90, length: 255,
			params: append([]byte{255, 0, 17, 2, 0, 14}, slices.Concat(v4[2:], as4[2:], capability(128)[2:])...)}, v4: true},
		{name: "an OPEN octet by octet", open: normal(v4, v6, as4), slowly: true, v4: true, v6: true},
		{name: "no hold time", open: oddOpen{version: 4, as: 64999, params: v4}, v4: true},
		{name: "the longest hold time", open: oddOpen{version: 4, as: 64999, hold: 65535, params: v4}, v4: true},
		{name: "messages of 60,000 octets, as agreed", open: normal(v4, extended), v4: true, says: [][]byte{bigUpdate(60000)}, heard: 1},
		{name: "refresh of families that we do not have", open: normal(v4, capability(2)), v4: true,
			says: [][]byte{raw(5, 0, 25, 0, 70), raw(5, 0, 2, 0, 1), raw(5, 0, 1, 1, 1), raw(5, 0, 1, 0, 1, 9, 9)}},
		{name: "only families that we do not have", open: normal(family(1, 128), as4), why: reason.PeerFamiliesDiffer,
			message: "no address family in common", farewell: "OPEN Message Error/Unsupported Capability"},

		{name: "another version", open: oddOpen{version: 3, as: 64999, hold: 90}, why: reason.PeerMessageInvalid,
			message: "Unsupported Version Number", farewell: "OPEN Message Error/Unsupported Version Number"},
		{name: "a hold time of 2 s", open: oddOpen{version: 4, as: 64999, hold: 2}, why: reason.PeerMessageInvalid,
			message: "Unacceptable Hold Time", farewell: "OPEN Message Error/Unacceptable Hold Time"},
		{name: "no identifier", open: normal(v4), id: "0.0.0.0", why: reason.PeerMessageInvalid,
			message: "Bad BGP Identifier", farewell: "OPEN Message Error/Bad BGP Identifier"},
		{name: "AS 0", open: oddOpen{version: 4, hold: 90}, why: reason.PeerMessageInvalid,
			message: "Bad Peer AS", farewell: "OPEN Message Error/Bad Peer AS"},
		{name: "authentication of old", open: normal(param(1, 0)), why: reason.PeerMessageInvalid,
			message: "Unsupported Optional Parameter", farewell: "OPEN Message Error/Unsupported Optional Parameter"},
		{name: "a second OPEN", open: normal(v4), says: [][]byte{normal(v4).message(netip.MustParseAddr("10.255.0.1"))},
			why: reason.PeerMessageInvalid, message: "Established", farewell: "Finite State Machine Error/Receive Unexpected Message in Established State"},
		{name: "a message that nobody knows", open: normal(v4), says: [][]byte{raw(6, 0, 1, 0, 0)}, why: reason.PeerMessageInvalid,
			message: "Bad Message Type", farewell: "Message Header Error/Bad Message Type"},
		{name: "a long message, not agreed", open: normal(v4), says: [][]byte{bigUpdate(5000)}, why: reason.PeerMessageInvalid,
			message: "Bad Message Length", farewell: "Message Header Error/Bad Message Length"},
		{name: "a farewell that is a picture", open: normal(v4), says: [][]byte{raw(3, append([]byte{6, 2, 16}, "\x1b[31mgo\r\naway\x07\xff\x9b"...)...)},
			why: reason.PeerNotification, message: `Cease/Administrative Shutdown: "[31mgoaway"`},
		{name: "a farewell with data of no use", open: normal(v4), says: [][]byte{raw(3, append([]byte{3, 250}, make([]byte, 4000)...)...)},
			why: reason.PeerNotification, message: "UPDATE Message Error/subcode 250"},
	}
	ns := links(t, len(cases)+1)
	r, _ := start(t)
	var sessions []desired.Session
	peers := make([]*oddPeer, len(cases))
	prefixes := func(n int) (v4, v6 string) {
		return fmt.Sprintf("192.0.2.%d/32", n), fmt.Sprintf("2001:db8::%x/128", n)
	}
	for i, c := range cases {
		n := i + 1
		if c.id == "" {
			c.id = "10.255.0.1"
		}
		peers[i] = &oddPeer{open: c.open.message(netip.MustParseAddr(c.id)), slowly: c.slowly, says: c.says, told: make(map[netip.Prefix]bool)}
		servePeer(t, ns, addr(n, "10.0.1.1"), peers[i])
		s := peer(n)
		one, two := prefixes(n)
		tell(r, s.Name, routes(desired.Attributes{}, one, two))
		sessions = append(sessions, s)
	}
	// One that is not odd, and shall not notice.
	sound := len(cases) + 1
	servePeer(t, ns, addr(sound, "10.0.1.1"), &oddPeer{open: normal(v4, v6, as4).message(netip.MustParseAddr("10.255.0.1"))})
	r.SetSessions([]desired.Session{peer(sound)}, nil)
	untouched := steady(t, r, peer(sound).Name)
	r.SetSessions(append(sessions, peer(sound)), nil)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			one, two := prefixes(i + 1)
			if c.why != "" {
				var text string
				await(t, r, sessions[i].Name, "to say "+c.message, func(s observed.Session) bool {
					text = s.Message
					return s.Reason == c.why
				})
				if !strings.Contains(text, c.message) {
					t.Errorf("the message is %q, want %q in it", text, c.message)
				}
				if c.farewell != "" {
					netns.Wait(t, 10*time.Second, "the peer to hear "+c.farewell, func() bool { return peers[i].heardFarewell() == c.farewell })
				}
				if !c.v4 && peers[i].knows(one) && len(c.says) == 0 {
					t.Errorf("the peer was told %s", one)
				}
				return
			}
			awaitUp(t, r, sessions[i].Name)
			steady := steady(t, r, sessions[i].Name)
			netns.Wait(t, 10*time.Second, "the routes", func() bool { return peers[i].knows(one) == c.v4 && peers[i].knows(two) == c.v6 })
			await(t, r, sessions[i].Name, "to have heard what the peer said", func(s observed.Session) bool { return s.Received == c.heard })
			s := session1(t, r, sessions[i].Name)
			if s.IPv4 != c.v4 || s.IPv6 != c.v6 || s.RemoteASN != 64999 {
				t.Errorf("the session is %+v, want IPv4 %t, IPv6 %t, AS 64999", s, c.v4, c.v6)
			}
			steady()
			if got := peers[i].heardFarewell(); got != "" {
				t.Errorf("the peer heard %q", got)
			}
		})
	}
	untouched()
}

// servePeer has an odd peer listen until the test ends.
func servePeer(t *testing.T, ns *netns.NS, at netip.Addr, p *oddPeer) {
	t.Helper()
	var l net.Listener
	ns.Do(t, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(at, 179).String())
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.serve(l)
	}()
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		if p.conn != nil {
			_ = p.conn.Close()
		}
		p.mu.Unlock()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("an odd peer does not end")
		}
	})
}
