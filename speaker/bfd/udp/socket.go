package udp

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/observed"
)

// system is the kernel of Linux.
type system struct{}

const (
	// queue is the room for packets that we are not quick enough to read.
	queue = 1 << 20
	// Source ports: "MUST be in the range 49152 through 65535" (RFC 5881,
	// section 4).
	lowPort, highPort = 49152, 65535
	// portTries bounds the search for a free one.
	portTries = 64
	// Internetwork control (CS6), for routers' own packets, and the priority of
	// the same meaning inside the kernel.
	trafficClass, priority = 0xc0, 6
)

// Listen opens the receiving socket of a door. The port is never shared: a
// second program would get a part of the packets only.
func (system) Listen(d door) (inlet, error) {
	fd, err := udpSocket(d.v6)
	if err != nil {
		return nil, err
	}
	if err := prepareInlet(fd, d); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	var any unix.Sockaddr = &unix.SockaddrInet4{Port: d.port()}
	if d.v6 {
		any = &unix.SockaddrInet6{Port: d.port()}
	}
	if err := unix.Bind(fd, any); err != nil {
		_ = unix.Close(fd)
		if errors.Is(err, unix.EADDRINUSE) {
			return nil, fmt.Errorf("UDP port %d: %w: BFD of a routing daemon or network plug-in on the node", d.port(), errPortInUse)
		}
		return nil, fmt.Errorf("bind UDP port %d: %w", d.port(), err)
	}
	return newReader(fd, "bfd")
}

func udpSocket(v6 bool) (int, error) {
	family := unix.AF_INET
	if v6 {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("open a UDP socket: %w", err)
	}
	return fd, nil
}

// option is a socket option that takes a number.
type option struct {
	level, name, value int
	what               string
}

func setOptions(fd int, options []option) error {
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set the socket option %s: %w", o.what, err)
		}
	}
	return nil
}

func prepareInlet(fd int, d door) error {
	options := []option{{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1, "SO_TIMESTAMPNS"}}
	if d.v6 {
		options = append(options,
			option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT"},
			option{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO"})
	} else {
		options = append(options,
			option{unix.IPPROTO_IP, unix.IP_RECVTTL, 1, "IP_RECVTTL"},
			option{unix.IPPROTO_IP, unix.IP_PKTINFO, 1, "IP_PKTINFO"})
	}
	if err := setOptions(fd, options); err != nil {
		return err
	}
	growQueue(fd)
	return toDevice(fd, d.vrf)
}

// growQueue asks for more than users may have, then for what they may.
func growQueue(fd int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queue) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queue)
	}
}

func toDevice(fd int, name string) error {
	if name == "" {
		return nil
	}
	if err := unix.BindToDevice(fd, name); err != nil {
		return fmt.Errorf("bind to interface %s: %w", name, err)
	}
	return nil
}

// sender is an outlet.
type sender struct {
	fd, index int
	local     netip.Addr
}

// Dial opens the sending socket of a session: it has a source port of its own,
// which stays the same (RFC 5881, section 4: "the same UDP source port number
// MUST be used for all BFD Control packets associated with a particular session").
func (system) Dial(p observed.BFDPeer) (outlet, error) {
	fd, err := udpSocket(p.Remote.Is6())
	if err != nil {
		return nil, err
	}
	s, err := connect(fd, p)
	if err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return s, nil
}

func connect(fd int, p observed.BFDPeer) (*sender, error) {
	device := p.Interface
	if device == "" {
		device = p.VRF
	}
	if err := toDevice(fd, device); err != nil {
		return nil, err
	}
	// "MUST be transmitted with an IPv4 TTL or IPv6 Hop Limit of 255" (RFC 5881,
	// section 5). The class comes before the priority, which it sets as well.
	options := []option{
		{unix.IPPROTO_IP, unix.IP_TOS, trafficClass, "IP_TOS"},
		{unix.IPPROTO_IP, unix.IP_TTL, 255, "IP_TTL"},
	}
	if p.Remote.Is6() {
		options = []option{
			{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, trafficClass, "IPV6_TCLASS"},
			{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255, "IPV6_UNICAST_HOPS"},
		}
	}
	// Nothing is ever read from it.
	options = append(options, option{unix.SOL_SOCKET, unix.SO_PRIORITY, priority, "SO_PRIORITY"},
		option{unix.SOL_SOCKET, unix.SO_RCVBUF, 1, "SO_RCVBUF"})
	if err := setOptions(fd, options); err != nil {
		return nil, err
	}
	index := 0
	if p.Interface != "" {
		ifi, err := net.InterfaceByName(p.Interface)
		if err != nil {
			return nil, fmt.Errorf("find interface %s: %w", p.Interface, err)
		}
		index = ifi.Index
	}
	if err := bindSource(fd, p, index); err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, sockaddr(p.Remote, doorOf(p).port(), index)); err != nil {
		return nil, fmt.Errorf("find a way to %s: %w", p.Remote, err)
	}
	s := &sender{fd: fd, index: index}
	own, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("read the source address: %w", err)
	}
	switch own := own.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrFrom4(own.Addr)
	case *unix.SockaddrInet6:
		s.local = netip.AddrFrom16(own.Addr)
	}
	return s, nil
}

// bindSource takes the address that is asked for and a free port.
func bindSource(fd int, p observed.BFDPeer, index int) error {
	local := p.Local
	if !local.IsValid() {
		local = netip.IPv4Unspecified()
		if p.Remote.Is6() {
			local = netip.IPv6Unspecified()
		}
	}
	var err error
	for range portTries {
		err = unix.Bind(fd, sockaddr(local, lowPort+rand.IntN(highPort-lowPort+1), index))
		if !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("send from %s: %w", local, err)
	}
	return nil
}

func sockaddr(a netip.Addr, port, index int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4(), Port: port}
	}
	sa := &unix.SockaddrInet6{Addr: a.As16(), Port: port}
	if a.IsLinkLocalUnicast() {
		sa.ZoneId = uint32(index)
	}
	return sa
}

// Send implements outlet. A connected socket reports errors of earlier packets,
// such as "port unreachable" of a peer that does not run BFD yet, in place of
// sending the next; that one is then sent again.
func (s *sender) Send(b []byte) error {
	err := unix.Send(s.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if err == nil {
		return nil
	}
	switch err := unix.Send(s.fd, b, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); {
	case err == nil, errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EINTR):
		return nil
	default:
		return fmt.Errorf("send: %w", err)
	}
}

// Local implements outlet.
func (s *sender) Local() netip.Addr { return s.local }

// Index implements outlet.
func (s *sender) Index() int { return s.index }

// Close implements outlet.
func (s *sender) Close() error { return unix.Close(s.fd) }

// Loops implements kernel: a host sends a packet back where it came from if it
// forwards packets at all.
func (system) Loops(index int, v6 bool) bool {
	family := "ipv4"
	if v6 {
		family = "ipv6"
	}
	name := "all"
	if ifi, err := net.InterfaceByIndex(index); index != 0 && err == nil {
		name = ifi.Name
	}
	text, err := os.ReadFile("/proc/sys/net/" + family + "/conf/" + name + "/forwarding")
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && n > 0
}
