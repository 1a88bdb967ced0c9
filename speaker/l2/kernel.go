package l2

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// packetMulticast is the last of the packet types that are for this host:
// host, broadcast, multicast (PACKET_HOST … PACKET_MULTICAST).
const packetMulticast = unix.PACKET_MULTICAST

// The kinds of errors that decide what happens next.
var (
	// errClosed: the room is ending.
	errClosed = errors.New("the socket is closed")
	// errLinkGone: the interface went away or down; its links will tell.
	errLinkGone = errors.New("the interface is gone")
	// errNoMemory: the kernel's limit for this socket is reached.
	errNoMemory = errors.New("the socket's kernel memory is used up")
)

// classify gives an error its kind, keeping what it says.
func (k *linux) classify(err error) error {
	switch {
	case err == nil:
		return nil
	case k.closed.Load():
		return fmt.Errorf("%w: %w", errClosed, err)
	case errors.Is(err, unix.ENETDOWN), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: %w", errLinkGone, err)
	case errors.Is(err, unix.ENOMEM), errors.Is(err, unix.ENOBUFS):
		return fmt.Errorf("%w: %w", errNoMemory, err)
	}
	return err
}

// linux is the real kernel: one packet socket for each protocol and as many
// plain IPv6 sockets as the multicast groups need.
//
// The packet sockets are bound to no interface. A frame then arrives once, from
// the interface that it is for (the VLAN or bond and not its parts), interfaces
// may come and go, and the kernel's own IPv6 input sees packets unshared. They
// are opened with the socket library, since the packet library does not tell
// on which interface a frame arrived.
type linux struct {
	conns [protocols]*socket.Conn
	raws  [protocols]syscall.RawConn

	closed atomic.Bool

	mu sync.Mutex // guards what follows
	// groups are the sockets that hold memberships. The kernel bounds what one
	// socket may hold (net.core.optmem_max).
	groups []*groupSocket
	where  map[membership]*groupSocket
}

// groupSocket is a socket that does nothing but hold memberships.
type groupSocket struct {
	fd   int
	full bool
}

// openKernel opens the packet sockets. They receive nothing until they have a
// filter.
func openKernel() (kernel, error) {
	k := &linux{where: make(map[membership]*groupSocket)}
	for p, number := range [protocols]uint16{protoARP: unix.ETH_P_ARP, protoNDP: unix.ETH_P_IPV6} {
		if err := k.openPacket(protocol(p), number); err != nil {
			_ = k.Close()
			return nil, fmt.Errorf("packet socket for %s (needs the capability NET_RAW): %w", protocol(p), err)
		}
	}
	return k, nil
}

func (k *linux) openPacket(p protocol, number uint16) error {
	// Protocol 0 receives nothing, so no frame slips in before the filter.
	conn, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, p.String(), nil)
	if err != nil {
		return err
	}
	k.conns[p] = conn
	if k.raws[p], err = conn.SyscallConn(); err != nil {
		return err
	}
	if err := k.Filter(p, []bpf.Instruction{bpf.RetConstant{Val: 0}}); err != nil {
		return err
	}
	return conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(number)})
}

// Receive implements kernel.
func (k *linux) Receive(p protocol, frame []byte) (n, index int, err error) {
	var from unix.Sockaddr
	waitErr := k.raws[p].Read(func(fd uintptr) bool {
		n, from, err = unix.Recvfrom(int(fd), frame, 0)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if err = errors.Join(waitErr, err); err != nil {
		return 0, 0, k.classify(err)
	}
	if sa, ok := from.(*unix.SockaddrLinklayer); ok {
		index = sa.Ifindex
	}
	return n, index, nil
}

// Send implements kernel.
func (k *linux) Send(p protocol, index int, frame []byte) (err error) {
	to := &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: index}
	if p == protoNDP {
		to.Protocol = networkOrder(unix.ETH_P_IPV6)
	}
	waitErr := k.raws[p].Write(func(fd uintptr) bool {
		err = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT, to)
		return true // a full queue is an error, not a reason to wait
	})
	return k.classify(errors.Join(waitErr, err))
}

// Filter implements kernel.
func (k *linux) Filter(p protocol, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assemble a filter of %d instructions: %w", len(program), err)
	}
	return k.classify(k.conns[p].SetBPF(raw))
}

// Drops implements kernel.
func (k *linux) Drops(p protocol) (uint64, error) {
	// The kernel resets its counters when they are read.
	stats, err := k.conns[p].GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, k.classify(err)
	}
	return uint64(stats.Drops), nil
}

// Join implements joiner.
func (k *linux) Join(m membership) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		s, err := k.roomySocket()
		if err != nil {
			return err
		}
		err = k.classify(setMembership(s, unix.IPV6_JOIN_GROUP, m))
		if errors.Is(err, unix.EADDRINUSE) {
			// Joined when the interface had lost and regained IPv6: the
			// socket remembers what the interface forgot.
			_ = setMembership(s, unix.IPV6_LEAVE_GROUP, m)
			err = k.classify(setMembership(s, unix.IPV6_JOIN_GROUP, m))
		}
		if errors.Is(err, errNoMemory) && !s.full {
			s.full = true
			if len(k.groups) > 1 && k.empty(s) {
				return err // even a fresh socket holds nothing: the system is out of memory
			}
			continue
		}
		if err != nil {
			return err
		}
		k.where[m] = s
		return nil
	}
}

// roomySocket returns a socket with room for a membership; mu is held.
func (k *linux) roomySocket() (*groupSocket, error) {
	if k.closed.Load() {
		return nil, errClosed
	}
	for i := len(k.groups) - 1; i >= 0; i-- {
		if !k.groups[i].full {
			return k.groups[i], nil
		}
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open an IPv6 socket: %w", err)
	}
	s := &groupSocket{fd: fd}
	k.groups = append(k.groups, s)
	return s, nil
}

// empty tells whether a socket holds no membership; mu is held.
func (k *linux) empty(s *groupSocket) bool {
	for _, holder := range k.where {
		if holder == s {
			return false
		}
	}
	return true
}

// Leave implements joiner.
func (k *linux) Leave(m membership) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.where[m]
	if s == nil {
		return nil
	}
	delete(k.where, m)
	s.full = false
	err := setMembership(s, unix.IPV6_LEAVE_GROUP, m)
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil
	}
	return k.classify(err)
}

func setMembership(s *groupSocket, option int, m membership) error {
	mreq := &unix.IPv6Mreq{Multiaddr: solicitedNode(m.group).As16(), Interface: uint32(m.index)}
	return os.NewSyscallError("setsockopt", unix.SetsockoptIPv6Mreq(s.fd, unix.IPPROTO_IPV6, option, mreq))
}

// Memberships implements kernel.
func (k *linux) Memberships() (map[membership]bool, error) {
	f, err := os.Open("/proc/net/igmp6")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	real := make(map[membership]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m, ok := parseIGMP6(lines.Text()); ok {
			real[m] = true
		}
	}
	return real, lines.Err()
}

// parseIGMP6 reads one line of /proc/net/igmp6: index, name, group, users and
// flags. It is false for groups that are not solicited-node ones.
func parseIGMP6(line string) (membership, bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return membership{}, false
	}
	tail, ok := strings.CutPrefix(fields[2], "ff0200000000000000000001ff")
	if !ok {
		return membership{}, false
	}
	index, err := strconv.Atoi(fields[0])
	if err != nil {
		return membership{}, false
	}
	group, err := strconv.ParseUint(tail, 16, 24)
	if err != nil {
		return membership{}, false
	}
	return membership{index, uint32(group)}, true
}

// Close implements kernel.
func (k *linux) Close() error {
	k.closed.Store(true)
	var errs []error
	for _, conn := range k.conns {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, s := range k.groups {
		errs = append(errs, unix.Close(s.fd))
	}
	k.groups = nil
	clear(k.where)
	return errors.Join(errs...)
}

// networkOrder is a protocol number as packet sockets want it.
func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }
