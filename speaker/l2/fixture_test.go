package l2

import (
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

var (
	ourMAC    = hwAddr{2, 0, 0, 0, 0, 0xaa}
	otherMAC  = hwAddr{2, 0, 0, 0, 0, 0xab} // of another interface of ours
	theirMAC  = hwAddr{2, 0, 0, 0, 0, 0xbb}
	thirdMAC  = hwAddr{2, 0, 0, 0, 0, 0xcc}
	linkLocal = netip.MustParseAddr("fe80::aa")
	vip4      = netip.MustParseAddr("10.0.0.100")
	vip6      = netip.MustParseAddr("2001:db8::100")
)

// linkOf is an interface that can serve both families.
func linkOf(index int, name string, mac hwAddr) observed.Link {
	return observed.Link{Index: index, Name: name, MAC: mac[:], Up: true, Carrier: true,
		Broadcast: true, Multicast: true, LinkLocal: linkLocal}
}

func with(l observed.Link, change func(*observed.Link)) observed.Link {
	change(&l)
	return l
}

// wanted announces addresses from all interfaces.
func wanted(addrs ...netip.Addr) desired.L2 {
	l2 := make(desired.L2)
	for _, a := range addrs {
		l2[a] = desired.L2Address{}
	}
	return l2
}

// newTestAnnouncer is one whose loop the test drives by hand.
func newTestAnnouncer(t testing.TB) *Announcer {
	t.Helper()
	a, err := New(Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// arpFrameOf builds an ARP frame with the library, not with our own code.
func arpFrameOf(t testing.TB, to, from hwAddr, op arp.Operation, sender hwAddr, senderAddr string, target hwAddr, targetAddr string) []byte {
	t.Helper()
	p, err := arp.NewPacket(op, sender[:], netip.MustParseAddr(senderAddr), target[:], netip.MustParseAddr(targetAddr))
	if err != nil {
		t.Fatal(err)
	}
	body, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	frame, err := (&ethernet.Frame{Destination: to[:], Source: from[:], EtherType: ethernet.EtherTypeARP, Payload: body}).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// ndpFrameOf builds an NDP frame with the library, not with our own code.
func ndpFrameOf(t testing.TB, to, from hwAddr, source, dest string, m ndp.Message) []byte {
	t.Helper()
	src, dst := netip.MustParseAddr(source), netip.MustParseAddr(dest)
	body, err := ndp.MarshalMessageChecksum(m, src, dst)
	if err != nil {
		t.Fatal(err)
	}
	header := make([]byte, 40)
	header[0] = 6 << 4
	header[4], header[5] = byte(len(body)>>8), byte(len(body))
	header[6], header[7] = protocolICMPv6, 255
	copy(header[8:], src.AsSlice())
	copy(header[24:], dst.AsSlice())
	frame := append(append(append([]byte{}, to[:]...), from[:]...), 0x86, 0xdd)
	return append(append(frame, header...), body...)
}

// solicitation asks for an address; source nil leaves the option out.
func solicitation(target netip.Addr, source *hwAddr) *ndp.NeighborSolicitation {
	ns := &ndp.NeighborSolicitation{TargetAddress: target}
	if source != nil {
		ns.Options = []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: net.HardwareAddr(source[:])}}
	}
	return ns
}

// solicitedMAC is the Ethernet address of an address's solicited-node group.
func solicitedMAC(addr netip.Addr) hwAddr {
	b := addr.As16()
	return hwAddr{0x33, 0x33, 0xff, b[13], b[14], b[15]}
}

// describe says in words what a frame of ours is, read with the libraries.
func describe(t testing.TB, frame []byte) string {
	t.Helper()
	if frame == nil {
		return "nothing"
	}
	var f ethernet.Frame
	if err := f.UnmarshalBinary(frame); err != nil {
		t.Fatalf("our frame is no Ethernet frame: %v", err)
	}
	ends := fmt.Sprintf("%s > %s: ", f.Source, f.Destination)
	if f.EtherType == ethernet.EtherTypeARP {
		var p arp.Packet
		if err := p.UnmarshalBinary(f.Payload); err != nil {
			t.Fatalf("our frame is no ARP packet: %v", err)
		}
		return ends + fmt.Sprintf("ARP %s %s is at %s, to %s at %s",
			p.Operation, p.SenderIP, p.SenderHardwareAddr, p.TargetIP, p.TargetHardwareAddr)
	}
	m, err := ndp.ParseMessage(f.Payload[40:])
	if err != nil {
		t.Fatalf("our frame is no NDP message: %v", err)
	}
	if got := icmp6Checksum(frame); got != 0 {
		t.Errorf("our frame's checksum is wrong by %#x", got)
	}
	na, ok := m.(*ndp.NeighborAdvertisement)
	if !ok {
		t.Fatalf("our frame is a %T, want an advertisement", m)
	}
	var flags []string
	for name, set := range map[string]bool{"router": na.Router, "solicited": na.Solicited, "override": na.Override} {
		if set {
			flags = append(flags, name)
		}
	}
	slices.Sort(flags)
	return ends + fmt.Sprintf("NA %s > %s hop %d: %s is at %s [%s]", netip.AddrFrom16([16]byte(f.Payload[8:])),
		netip.AddrFrom16([16]byte(f.Payload[24:])), f.Payload[7], na.TargetAddress,
		na.Options[0].(*ndp.LinkLayerAddress).Addr, strings.Join(flags, " "))
}

// fakeOS is a kernel that keeps state: filters, memberships by interface, and
// what was sent.
type fakeOS struct {
	mu      sync.Mutex
	filters [protocols][]bpf.Instruction
	joined  map[membership]bool
	sent    []sent
	// absent interfaces refuse memberships and frames.
	absent map[int]bool
	// room bounds the instructions of a filter, 0 = no bound.
	room   int
	closed chan struct{}
	frames [protocols]chan incoming
}

type sent struct {
	index int
	frame []byte
}

type incoming struct {
	index int
	frame []byte
	err   error
}

func newFakeOS() *fakeOS {
	k := &fakeOS{joined: make(map[membership]bool), absent: make(map[int]bool), closed: make(chan struct{})}
	for p := range k.frames {
		k.frames[p] = make(chan incoming)
		k.filters[p] = (&filter{}).program() // as a real socket is opened
	}
	return k
}

func (k *fakeOS) Receive(p protocol, frame []byte) (int, int, error) {
	select {
	case in := <-k.frames[p]:
		return copy(frame, in.frame), in.index, in.err
	case <-k.closed:
		return 0, 0, errClosed
	}
}

func (k *fakeOS) Send(_ protocol, index int, frame []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.absent[index] {
		return errLinkGone
	}
	k.sent = append(k.sent, sent{index, slices.Clone(frame)})
	return nil
}

func (k *fakeOS) Filter(p protocol, program []bpf.Instruction) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.room > 0 && len(program) > k.room {
		return errNoMemory
	}
	k.filters[p] = program
	return nil
}

func (k *fakeOS) Join(m membership) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.absent[m.index] {
		return errLinkGone
	}
	k.joined[m] = true
	return nil
}

func (k *fakeOS) Leave(m membership) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.joined, m)
	return nil
}

func (k *fakeOS) Memberships() (map[membership]bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.joined), nil
}

func (k *fakeOS) Drops(protocol) (uint64, error) { return 0, nil }

func (k *fakeOS) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.closed:
	default:
		close(k.closed)
	}
	return nil
}

// take returns what was sent since the last call, described and sorted.
func (k *fakeOS) take(t testing.TB) []string {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []string
	for _, s := range k.sent {
		all = append(all, fmt.Sprintf("%d: %s", s.index, describe(t, s.frame)))
	}
	k.sent = nil
	slices.Sort(all)
	return all
}

// settle steps a loop, as its timer would, until nothing more is planned for
// the given moment.
func settle(t testing.TB, l *loop, now time.Time) {
	t.Helper()
	for range 10_000 {
		if next := l.step(now); next.IsZero() || next.After(now) {
			return
		}
	}
	t.Fatal("the loop does not come to rest")
}

// pass steps a loop through a span of time, as its timer would.
func pass(t testing.TB, l *loop, from time.Time, span time.Duration) time.Time {
	t.Helper()
	end := from.Add(span)
	now := from
	for range 1_000_000 {
		next := l.step(now)
		if next.IsZero() || next.After(end) {
			return end
		}
		if next.After(now) {
			now = next
		}
	}
	t.Fatal("the loop does not come to rest")
	return end
}
