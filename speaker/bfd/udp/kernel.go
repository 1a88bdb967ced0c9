package udp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/heraldlb/herald/speaker/observed"
)

// Ports (RFC 5881, section 4, and RFC 5883, section 5).
const (
	singleHopPort = 3784
	echoPort      = 3785
	multihopPort  = 4784
)

// A door names a receiving socket: all sessions of a kind share one.
type door struct {
	v6, multihop bool
	vrf          string
}

func doorOf(p observed.BFDPeer) door {
	return door{v6: p.Remote.Is6(), multihop: p.Multihop, vrf: p.VRF}
}

func (d door) String() string {
	family := "IPv4"
	if d.v6 {
		family = "IPv6"
	}
	return fmt.Sprintf("%s UDP port %d", family, d.port())
}

func (d door) port() int {
	if d.multihop {
		return multihopPort
	}
	return singleHopPort
}

// kernel is where packets come from and go to.
type kernel interface {
	// Listen opens the receiving socket of a door.
	Listen(door) (inlet, error)
	// Dial opens the sending socket of a session.
	Dial(observed.BFDPeer) (outlet, error)
	// Loops tells whether the kernel would send back the echo packets of a peer
	// that come in by an interface.
	Loops(index int, v6 bool) bool
	// Echo opens what sends echo packets to a peer through an interface, and
	// gets those back that it sent.
	Echo(index int, local netip.Addr) (echoSocket, error)
}

// inlet is a receiving socket.
type inlet interface {
	// Await calls ready when something has arrived, once for the beginning and
	// once for each Arm, until Close.
	Await(ready func()) error
	Arm() error
	// Drain hands over all that has arrived, says how much, and does not wait.
	// The datagram and what it points to are handle's until it returns.
	Drain(handle func(*datagram)) (int, error)
	// Drops counts what the kernel threw away because we did not read it.
	Drops() uint32
	// Close may be repeated.
	Close() error
}

// outlet is a sending socket.
type outlet interface {
	Send([]byte) error
	// Local is the source address, Index the interface that it is bound to or 0.
	Local() netip.Addr
	Index() int
	Close() error
}

// echoSocket sends and receives echo packets of one interface and address.
type echoSocket interface {
	inlet
	// Send sends the payload in a packet that the peer's forwarding leads back
	// to us.
	Send(peer netip.Addr, payload []byte) error
}

// datagram is a received packet.
type datagram struct {
	Payload  []byte
	From, To netip.Addr // without zones
	// Index is the interface's.
	Index int
	TTL   int
	// At is when it arrived.
	At time.Time
}
