//go:build lab

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// An announcement is one frame of gratuitous ARP.
type announcement struct {
	at   time.Time
	mac  string
	addr netip.Addr
}

// A wire is what is announced on a segment, as its switch sees it: every such
// frame is a broadcast.
type wire struct {
	ns *nsnet.Namespace
	fd int

	mu   sync.Mutex // guards the rest
	seen []announcement
	err  error
}

// receiveBuffer holds some seconds of announcements, in case this program has to
// wait for a processor.
const receiveBuffer = 64 << 20

// tapWire listens on the first segment until the benchmark ends.
func (w *world) tapWire() *wire {
	w.Helper()
	ns, err := nsnet.Open(w.State.Layout.Switch)
	w.must(err)
	t := &wire{ns: ns}
	w.must(ns.Do(func() error { return t.open(w.State.Layout.Segments[0].Bridge) }))
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.listen(w.ctx.Done())
	}()
	w.Cleanup(func() {
		<-done
		unix.Close(t.fd)
		ns.Close()
	})
	return t
}

func (t *wire) open(bridge string) error {
	iface, err := net.InterfaceByName(bridge)
	if err != nil {
		return fmt.Errorf("find the bridge: %w", err)
	}
	const arp = unix.ETH_P_ARP<<8&0xff00 | unix.ETH_P_ARP>>8 // in network order
	if t.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, arp); err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	return errors.Join(
		unix.Bind(t.fd, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: iface.Index}),
		unix.SetsockoptInt(t.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer),
		unix.SetsockoptTimeval(t.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
	)
}

// listen notes announcements until done is closed.
func (t *wire) listen(done <-chan struct{}) {
	frame := make([]byte, 2048)
	for {
		select {
		case <-done:
			return
		default:
		}
		n, _, err := unix.Recvfrom(t.fd, frame, 0)
		switch {
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			t.mu.Lock()
			t.err = fmt.Errorf("listen to the wire: %w", err)
			t.mu.Unlock()
			return
		}
		if a, ok := parseAnnouncement(frame[:n]); ok {
			a.at = time.Now()
			t.mu.Lock()
			t.seen = append(t.seen, a)
			t.mu.Unlock()
		}
	}
}

// parseAnnouncement reads an Ethernet frame. An announcement is an ARP packet
// whose sender and target addresses are the same (RFC 5227, section 3).
func parseAnnouncement(frame []byte) (a announcement, ok bool) {
	const header, size = 14, 28
	if len(frame) < header+size || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_ARP {
		return a, false
	}
	p := frame[header:]
	sender, target := netip.AddrFrom4([4]byte(p[14:18])), netip.AddrFrom4([4]byte(p[24:28]))
	if sender != target {
		return a, false
	}
	return announcement{mac: net.HardwareAddr(p[8:14]).String(), addr: sender}, true
}

// since returns when a MAC first announced each address, from a moment on, and
// fails if the kernel dropped a frame for which there was no room.
func (t *wire) since(mac string, from time.Time) (map[netip.Addr]time.Time, error) {
	stats, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, fmt.Errorf("ask for lost frames: %w", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if stats.Drops > 0 {
		t.err = fmt.Errorf("listen to the wire: %d frames were lost", stats.Drops)
	}
	first := map[netip.Addr]time.Time{}
	for _, a := range t.seen {
		if _, known := first[a.addr]; !known && a.mac == mac && !a.at.Before(from) {
			first[a.addr] = a.at
		}
	}
	return first, t.err
}

// forget drops what was seen, so that a long benchmark does not gather it all.
func (t *wire) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen = nil
}
