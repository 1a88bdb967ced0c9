//go:build netns

package gobgp

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// malformedEnv makes the test last as long as it says, such as 5m.
const malformedEnv = "HERALD_MALFORMED_FOR"

// A peer that sends broken messages of every kind, through real sessions, ends
// neither the process nor another session, and is taken back as soon as it
// behaves.
func TestNetnsMalformedMessages(t *testing.T) {
	lasting := 10 * time.Second
	if s := os.Getenv(malformedEnv); s != "" {
		var err error
		if lasting, err = time.ParseDuration(s); err != nil {
			t.Fatalf("%s: %v", malformedEnv, err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	bad := &scripted{rand: rand.New(rand.NewPCG(seed, 1)), done: make(chan struct{})}
	link(t, 1).Do(t, func() (err error) {
		bad.listener, err = net.Listen("tcp4", "10.0.1.1:179")
		return err
	})
	go bad.run()
	t.Cleanup(func() {
		_ = bad.listener.Close()
		<-bad.done
	})
	sound := frr(t, link(t, 2), 2, "")
	r, _ := start(t)
	for _, p := range []string{"tor1", "tor2"} {
		tell(r, p, routes(desired.Attributes{}, "192.0.2.1/32"))
	}
	r.SetSessions([]desired.Session{peer(1), peer(2)}, nil)
	untouched := steady(t, r, "tor2")
	awaitRoutes(t, sound, "192.0.2.1/32")

	deadline := time.Now().Add(lasting)
	for time.Now().Before(deadline) {
		untouched()
		time.Sleep(100 * time.Millisecond)
	}
	bad.behave.Store(true)
	await(t, r, "tor1", "to be back", func(s observed.Session) bool {
		return s.State == observed.Established && s.SentIPv4 == 1
	})
	untouched()
	awaitRoutes(t, sound, "192.0.2.1/32")
	t.Logf("%d connections, %d broken messages", bad.connections.Load(), bad.messages.Load())
	if bad.messages.Load() < 100 {
		t.Errorf("only %d broken messages were sent", bad.messages.Load())
	}
}

// scripted is a BGP speaker that breaks its messages until it shall behave.
type scripted struct {
	listener              net.Listener
	rand                  *rand.Rand
	done                  chan struct{}
	behave                atomic.Bool
	connections, messages atomic.Int64
}

func (s *scripted) run() {
	defer close(s.done)
	for {
		conn, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.connections.Add(1)
		s.serve(conn)
		_ = conn.Close()
	}
}

// serve plays one connection.
func (s *scripted) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(4 * time.Second))
	open := bgp.Open{
		ASN: 64999, HoldTime: 90 * time.Second, ID: netip.MustParseAddr("10.0.1.1"), IPv4: true, IPv6: true,
		FourOctetAS: true, Refresh: true, Extended: true, GracefulRestart: true, IPv4OverIPv6: true,
	}
	message := open.Append(nil)
	// Half of the connections break in the OPEN.
	if !s.behave.Load() && s.rand.IntN(2) == 0 {
		for range 1 + s.rand.IntN(4) {
			message = s.mutate(message, bgp.HeaderLen)
		}
		s.messages.Add(1)
	}
	if _, err := conn.Write(message); err != nil {
		return
	}
	if _, err := io.ReadFull(conn, make([]byte, bgp.HeaderLen)); err != nil {
		return
	}
	if _, err := conn.Write(bgp.AppendKeepalive(nil)); err != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	if s.behave.Load() {
		_ = conn.SetDeadline(time.Time{})
		for s.behave.Load() {
			if _, err := conn.Write(bgp.AppendKeepalive(nil)); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		return
	}
	time.Sleep(200 * time.Millisecond) // into Established
	for range 2000 {
		if s.behave.Load() {
			return
		}
		if _, err := conn.Write(s.broken()); err != nil {
			return
		}
		s.messages.Add(1)
	}
}

// broken is a message that should not be: mostly an UPDATE whose parts lie.
func (s *scripted) broken() []byte {
	switch s.rand.IntN(200) {
	case 0: // any header
		return s.mutate(bgp.AppendKeepalive(nil), 0)
	case 1:
		n := bgp.Notification{Code: byte(s.rand.IntN(9)), Subcode: byte(s.rand.IntN(12)), Data: s.bytes(s.rand.IntN(300))}
		return n.Append(nil)
	case 2:
		body := s.bytes(4 + s.rand.IntN(20))
		return append(bgp.AppendHeader(nil, bgp.RefreshMessage, len(body)), body...)
	case 3:
		return s.mutate((&bgp.Open{ASN: 64999, ID: netip.MustParseAddr("10.0.1.1")}).Append(nil), bgp.HeaderLen)
	}
	body := s.update()
	return append(bgp.AppendHeader(nil, bgp.UpdateMessage, len(body)), body...)
}

// update is an UPDATE with attributes of every type that a decoder may know, each
// with octets and a length of its own.
func (s *scripted) update() []byte {
	var attributes []byte
	for range 1 + s.rand.IntN(6) {
		value := s.bytes(s.rand.IntN(40))
		code := byte(s.rand.IntN(42))
		if s.rand.IntN(2) == 0 {
			// Reach and unreach of a known family, cut anywhere: the octets
			// that once ended a whole process.
			code = 14 + byte(s.rand.IntN(2))
			families := [][3]byte{{0, 1, 1}, {0, 2, 1}, {0, 1, 128}, {0, 25, 70}, {0, 1, 133}, {0, 2, 134}, {64, 4, 71}, {0, 1, 132}, {0, 25, 65}}
			f := families[s.rand.IntN(len(families))]
			value = append(f[:], value...)
			value = value[:s.rand.IntN(len(value)+1)]
		}
		size := len(value)
		if s.rand.IntN(4) == 0 {
			size = s.rand.IntN(256)
		}
		attributes = append(attributes, byte(s.rand.IntN(16)<<4)&^0x10, code, byte(size))
		attributes = append(attributes, value...)
	}
	withdrawn, nlri := s.bytes(s.rand.IntN(12)), s.bytes(s.rand.IntN(12))
	body := binary.BigEndian.AppendUint16(nil, uint16(s.lie(len(withdrawn))))
	body = append(body, withdrawn...)
	body = binary.BigEndian.AppendUint16(body, uint16(s.lie(len(attributes))))
	return append(append(body, attributes...), nlri...)
}

// lie is mostly n.
func (s *scripted) lie(n int) int {
	if s.rand.IntN(8) == 0 {
		return s.rand.IntN(70000)
	}
	return n
}

func (s *scripted) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.rand.Uint32())
	}
	return b
}

// mutate changes one octet after the first ones, or cuts the message; its header
// then says so.
func (s *scripted) mutate(b []byte, from int) []byte {
	if s.rand.IntN(3) == 0 && len(b) > from+1 {
		b = b[:from+s.rand.IntN(len(b)-from)]
		if len(b) >= bgp.HeaderLen {
			binary.BigEndian.PutUint16(b[16:], uint16(len(b)))
		}
		return b
	}
	if len(b) <= from {
		return b
	}
	b[from+s.rand.IntN(len(b)-from)] = byte(s.rand.Uint32())
	return b
}
