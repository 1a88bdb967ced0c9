package udp

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/heraldlb/herald/speaker/observed"
)

// fakeNet joins the rooms of a test. It loses nothing unless it is cut, and
// delivers at once.
type fakeNet struct {
	mu     sync.Mutex // guards all that follows
	inlets map[netip.AddrPort]*fakeInlet
	cut    bool
	// busy are addresses whose port another program has.
	busy map[netip.AddrPort]bool
}

func newFakeNet() *fakeNet {
	return &fakeNet{inlets: make(map[netip.AddrPort]*fakeInlet), busy: make(map[netip.AddrPort]bool)}
}

// fakeHost is a host of the net: the kernel of one room.
type fakeHost struct {
	net  *fakeNet
	addr netip.Addr
	// stall holds up the next packet that is sent, and the room with it, for a
	// while; meanwhile nothing is read. room is how many packets wait at most.
	stall time.Duration
	room  int
}

// Listen implements kernel.
func (h *fakeHost) Listen(d door) (inlet, error) {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	at := netip.AddrPortFrom(h.addr, uint16(d.port()))
	if h.net.busy[at] || h.net.inlets[at] != nil {
		return nil, errPortInUse
	}
	in := &fakeInlet{host: h, at: at, arrived: make(chan struct{}, 1), closed: make(chan struct{}), armed: true}
	h.net.inlets[at] = in
	return in, nil
}

// Dial implements kernel.
func (h *fakeHost) Dial(p observed.BFDPeer) (outlet, error) {
	return &fakeOutlet{host: h, to: netip.AddrPortFrom(p.Remote, uint16(doorOf(p).port()))}, nil
}

// Loops implements kernel.
func (h *fakeHost) Loops(int, bool) bool { return false }

// Echo implements kernel.
func (h *fakeHost) Echo(int, netip.Addr) (echoSocket, error) { return nil, errPortInUse }

type fakeOutlet struct {
	host *fakeHost
	to   netip.AddrPort
}

// Send implements outlet.
func (o *fakeOutlet) Send(b []byte) error {
	n := o.host.net
	n.mu.Lock()
	if in := n.inlets[o.to]; in != nil && !n.cut {
		in.put(datagram{Payload: slices.Clone(b), From: o.host.addr, To: o.to.Addr(), Index: 1, TTL: 255, At: time.Now()})
	}
	n.mu.Unlock()
	if d := o.host.stall; d > 0 {
		time.Sleep(d)
		n.mu.Lock()
		o.host.stall = 0
		for _, in := range n.inlets {
			in.poke()
		}
		n.mu.Unlock()
	}
	return nil
}

func (o *fakeOutlet) Local() netip.Addr { return o.host.addr }
func (o *fakeOutlet) Index() int        { return 1 }
func (o *fakeOutlet) Close() error      { return nil }

// fakeInlet is a queue; the net's lock guards it.
type fakeInlet struct {
	host    *fakeHost
	at      netip.AddrPort
	queue   []datagram
	drops   uint32
	armed   bool
	arrived chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func (in *fakeInlet) put(g datagram) {
	if in.host.room > 0 && len(in.queue) >= in.host.room {
		in.drops++
		return
	}
	in.queue = append(in.queue, g)
	in.poke()
}

// poke wakes the reader if it is to be woken.
func (in *fakeInlet) poke() {
	if in.armed && len(in.queue) > 0 && in.host.stall == 0 {
		in.armed = false
		select {
		case in.arrived <- struct{}{}:
		default:
		}
	}
}

// Await implements inlet.
func (in *fakeInlet) Await(ready func()) error {
	for {
		select {
		case <-in.closed:
			return nil
		case <-in.arrived:
			ready()
		}
	}
}

// Arm implements inlet.
func (in *fakeInlet) Arm() error {
	in.host.net.mu.Lock()
	defer in.host.net.mu.Unlock()
	in.armed = true
	in.poke()
	return nil
}

// Drain implements inlet.
func (in *fakeInlet) Drain(handle func(*datagram)) (int, error) {
	in.host.net.mu.Lock()
	queue := in.queue
	in.queue = nil
	in.host.net.mu.Unlock()
	for i := range queue {
		handle(&queue[i])
	}
	return len(queue), nil
}

// Drops implements inlet.
func (in *fakeInlet) Drops() uint32 {
	in.host.net.mu.Lock()
	defer in.host.net.mu.Unlock()
	return in.drops
}

// Close implements inlet.
func (in *fakeInlet) Close() error {
	in.once.Do(func() {
		in.host.net.mu.Lock()
		delete(in.host.net.inlets, in.at)
		in.host.net.mu.Unlock()
		close(in.closed)
	})
	return nil
}
