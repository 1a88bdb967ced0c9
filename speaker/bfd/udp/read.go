package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// batch is how many packets one system call brings.
	batch = 16
	// payload holds every control and echo packet; the rest is cut off, and the
	// length in the packet then does not fit.
	payload = 128
	control = 128
)

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
}

// slot is the memory of one packet.
type slot struct {
	name    unix.RawSockaddrInet6 // the largest one that occurs
	iov     unix.Iovec
	payload [payload]byte
	control [control]byte
}

// reader reads a socket in batches, into memory that it keeps.
//
// The runtime's poller would wake a thread for every packet, whether or not
// anybody waits for it. So it sees only an epoll instance of ours, in which the
// socket speaks once and is then silent until it is armed again.
type reader struct {
	fd       int
	poller   *os.File
	raw      syscall.RawConn
	messages [batch]message
	slots    [batch]slot
	got      datagram
	// empty is when the socket was last seen empty: what is in it now has
	// arrived since.
	empty time.Time
	// closed is set before the descriptors are closed.
	closed atomic.Bool
}

// newReader takes over a non-blocking socket, and closes it if it fails.
func newReader(fd int, name string) (*reader, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open an epoll instance: %w", err)
	}
	r := &reader{fd: fd, empty: time.Now()}
	if err = unix.SetNonblock(ep, true); err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(fd)})
	}
	if err == nil {
		r.poller = os.NewFile(uintptr(ep), name)
		r.raw, err = r.poller.SyscallConn()
	}
	if err != nil {
		_, _ = unix.Close(ep), unix.Close(fd)
		return nil, fmt.Errorf("wait for packets: %w", err)
	}
	for i := range r.slots {
		s, h := &r.slots[i], &r.messages[i].header
		s.iov.Base = &s.payload[0]
		s.iov.SetLen(payload)
		h.Name, h.Iov, h.Control = (*byte)(unsafe.Pointer(&s.name)), &s.iov, &s.control[0]
		h.SetIovlen(1)
	}
	return r, nil
}

// Await implements inlet.
func (r *reader) Await(ready func()) error {
	var events [1]unix.EpollEvent
	err := r.raw.Read(func(ep uintptr) bool {
		if n, _ := unix.EpollWait(int(ep), events[:], 0); n > 0 {
			ready()
		}
		return false
	})
	if r.closed.Load() {
		return nil
	}
	return err
}

// Arm implements inlet.
func (r *reader) Arm() error {
	return r.raw.Control(func(ep uintptr) {
		_ = unix.EpollCtl(int(ep), unix.EPOLL_CTL_MOD, r.fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: int32(r.fd)})
	})
}

// Close implements inlet. The reader's goroutine is gone when the socket closes.
func (r *reader) Close() error {
	r.closed.Store(true)
	err := r.poller.Close()
	return errors.Join(err, unix.Close(r.fd))
}

// Drops implements inlet.
func (r *reader) Drops() uint32 {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, _ = unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(r.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return info[unix.SK_MEMINFO_DROPS]
}

// receive is recvmmsg.
func (r *reader) receive() (int, error) {
	for i := range r.messages {
		h := &r.messages[i].header
		h.Namelen = uint32(unsafe.Sizeof(r.slots[i].name))
		h.SetControllen(control)
	}
	// It never waits, so the scheduler need not know.
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.messages)), batch, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// Drain implements inlet.
func (r *reader) Drain(handle func(*datagram)) (int, error) {
	for total := 0; ; {
		if r.closed.Load() {
			return total, nil
		}
		n, err := r.receive()
		now := time.Now()
		switch {
		case errors.Is(err, unix.EAGAIN):
			r.empty = now
			return total, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return total, fmt.Errorf("receive: %w", err)
		}
		total += n
		for i := range n {
			if r.parse(i, now) {
				handle(&r.got)
			}
		}
		if n < batch {
			r.empty = now
			return total, nil
		}
	}
}

// parse makes a datagram of a slot; false if the packet is no use.
func (r *reader) parse(i int, now time.Time) bool {
	s, m, g := &r.slots[i], &r.messages[i], &r.got
	*g = datagram{Payload: s.payload[:min(m.length, payload)], At: now, TTL: -1}
	switch s.name.Family {
	case unix.AF_INET:
		g.From = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&s.name)).Addr)
	case unix.AF_INET6:
		g.From = netip.AddrFrom16(s.name.Addr)
	case unix.AF_PACKET:
		return g.unwrap()
	default:
		return false
	}
	return r.parseControl(s.control[:min(int(m.header.Controllen), control)], now)
}

// parseControl reads what the kernel says of a packet.
func (r *reader) parseControl(b []byte, now time.Time) bool {
	g := &r.got
	for len(b) >= unix.CmsgLen(0) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		size := int(h.Len)
		if size < unix.CmsgLen(0) || size > len(b) {
			break
		}
		data := b[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(unix.Timespec{})):
			ts := (*unix.Timespec)(unsafe.Pointer(&data[0]))
			g.At = r.arrival(now, time.Unix(ts.Unix()))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TTL && len(data) >= 4,
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_HOPLIMIT && len(data) >= 4:
			g.TTL = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0]))
			g.Index, g.To = int(info.Ifindex), netip.AddrFrom4(info.Addr)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0]))
			g.Index, g.To = int(info.Ifindex), netip.AddrFrom16(info.Addr)
		}
		b = b[min(unix.CmsgSpace(size-unix.CmsgLen(0)), len(b)):]
	}
	return g.To.IsValid()
}

// arrival turns the kernel's time of day into ours, which never jumps: when the
// clock was set meanwhile, the packet still came after the socket was last seen
// empty, and not after now.
func (r *reader) arrival(now, stamp time.Time) time.Time {
	at := now.Add(-now.Round(0).Sub(stamp))
	switch {
	case at.Before(r.empty):
		return r.empty
	case at.After(now):
		return now
	}
	return at
}
