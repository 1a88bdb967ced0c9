package udp

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/bfd"
)

const (
	ipv4Len, ipv6Len, udpLen = 20, 40, 8
	protocolUDP              = 17
)

// loopback is an echoSocket. Echo packets are from us to us, so ordinary
// sockets are of no use: the kernel would deliver what we send without the
// network, and discards what comes back as a forgery of our address. A raw
// socket sends what we wrote to whom we say, and a packet socket sees what
// arrives before it is discarded.
type loopback struct {
	*reader
	out   int
	index int
	local netip.Addr
	buf   []byte
}

// Echo implements kernel.
func (system) Echo(index int, local netip.Addr) (echoSocket, error) {
	in, err := packetSocket(index, local)
	if err != nil {
		return nil, err
	}
	reader, err := newReader(in, "bfd-echo")
	if err != nil {
		return nil, err
	}
	out, err := rawSocket(index, local)
	if err != nil {
		_ = reader.Close()
		return nil, err
	}
	return &loopback{
		reader: reader, out: out, index: index, local: local,
		buf: make([]byte, 0, ipv6Len+udpLen+bfd.EchoLen),
	}, nil
}

// packetSocket receives the echo packets of one address that come in by one
// interface; the kernel's filter drops everything else.
func packetSocket(index int, local netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open a packet socket: %w", err)
	}
	err = func() error {
		program, err := bpf.Assemble(echoFilter(local))
		if err != nil {
			return err
		}
		filter := make([]unix.SockFilter, len(program))
		for i, op := range program {
			filter[i] = unix.SockFilter{Code: op.Op, Jt: op.Jt, Jf: op.Jf, K: op.K}
		}
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
			return err
		}
		protocol := uint16(unix.ETH_P_IP)
		if local.Is6() {
			protocol = unix.ETH_P_IPV6
		}
		var wire [2]byte
		binary.BigEndian.PutUint16(wire[:], protocol)
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(wire[:]), Ifindex: index})
	}()
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("prepare the packet socket: %w", err)
	}
	return fd, nil
}

// echoFilter accepts UDP to the echo port of our address, as it comes in.
func echoFilter(local netip.Addr) []bpf.Instruction {
	type check struct {
		load bpf.Instruction
		mask uint32
		want uint32
	}
	checks := []check{
		{bpf.LoadAbsolute{Off: 9, Size: 1}, 0, protocolUDP},
		{bpf.LoadAbsolute{Off: 6, Size: 2}, 0x1fff, 0}, // not a later fragment
		{bpf.LoadAbsolute{Off: 0, Size: 1}, 0x0f, ipv4Len / 4},
		{bpf.LoadAbsolute{Off: ipv4Len + 2, Size: 2}, 0, echoPort},
	}
	address := uint32(16)
	if local.Is6() {
		checks = []check{
			{bpf.LoadAbsolute{Off: 6, Size: 1}, 0, protocolUDP},
			{bpf.LoadAbsolute{Off: ipv6Len + 2, Size: 2}, 0, echoPort},
		}
		address = 24
	}
	bytes := local.AsSlice()
	for i := 0; i < len(bytes); i += 4 {
		checks = append(checks, check{bpf.LoadAbsolute{Off: address + uint32(i), Size: 4}, 0, binary.BigEndian.Uint32(bytes[i:])})
	}
	program := []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_HOST, SkipTrue: 1}, bpf.RetConstant{}}
	for _, c := range checks {
		program = append(program, c.load)
		if c.mask != 0 {
			program = append(program, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask})
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.want, SkipTrue: 1}, bpf.RetConstant{})
	}
	return append(program, bpf.RetConstant{Val: payload})
}

// rawSocket sends packets with our own IP headers out of one interface.
func rawSocket(index int, local netip.Addr) (int, error) {
	family, level, include := unix.AF_INET, unix.IPPROTO_IP, unix.IP_HDRINCL
	if local.Is6() {
		family, level, include = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_RAW)
	if err != nil {
		return -1, fmt.Errorf("open a raw socket: %w", err)
	}
	err = setOptions(fd, []option{{level, include, 1, "IP_HDRINCL"}, {unix.SOL_SOCKET, unix.SO_PRIORITY, priority, "SO_PRIORITY"}})
	if err == nil {
		var ifi *net.Interface
		if ifi, err = net.InterfaceByIndex(index); err == nil {
			err = toDevice(fd, ifi.Name)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("prepare the raw socket: %w", err)
	}
	return fd, nil
}

// Send implements echoSocket. The route is the peer's, the destination ours
// (RFC 5881, section 4: "The destination address MUST be chosen in such a way as
// to cause the remote system to forward the packet back to the local system").
func (l *loopback) Send(peer netip.Addr, payload []byte) error {
	l.buf = appendEchoIP(l.buf[:0], l.local, payload)
	if err := unix.Sendto(l.out, l.buf, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, sockaddr(peer, 0, l.index)); err != nil {
		return fmt.Errorf("send an echo packet to %s: %w", peer, err)
	}
	return nil
}

// Close implements inlet.
func (l *loopback) Close() error {
	_ = unix.Close(l.out)
	return l.reader.Close()
}

// appendEchoIP writes the headers and the payload.
func appendEchoIP(b []byte, local netip.Addr, payload []byte) []byte {
	start := len(b)
	length := udpLen + len(payload)
	if local.Is4() {
		a := local.As4()
		b = append(b, 0x45, trafficClass)
		b = binary.BigEndian.AppendUint16(b, uint16(ipv4Len+length))
		// No fragments; the kernel fills the checksum in.
		b = append(b, 0, 0, 0x40, 0, 255, protocolUDP, 0, 0)
		b = append(append(b, a[:]...), a[:]...)
	} else {
		a := local.As16()
		b = append(b, 0x60|trafficClass>>4, trafficClass<<4&0xff, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(length))
		b = append(b, protocolUDP, 255)
		b = append(append(b, a[:]...), a[:]...)
	}
	udp := len(b)
	b = binary.BigEndian.AppendUint16(b, echoPort)
	b = binary.BigEndian.AppendUint16(b, echoPort)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(append(b, 0, 0), payload...)
	if local.Is6() {
		// IPv6 has no header checksum, so UDP must have one.
		binary.BigEndian.PutUint16(b[udp+6:], checksum(b[start+8:], uint32(length)+protocolUDP))
	}
	return b
}

// checksum is the Internet checksum of b, which has an even length here, and of
// what the pseudo-header adds.
func checksum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum == 0xffff {
		return 0xffff
	}
	return ^uint16(sum)
}

// unwrap reads the headers of a packet that the filter let through.
func (g *datagram) unwrap() bool {
	b := g.Payload
	switch {
	case len(b) >= ipv4Len+udpLen && b[0]>>4 == 4:
		g.TTL = int(b[8])
		g.From, g.To = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		g.Payload = b[ipv4Len+udpLen:]
	case len(b) >= ipv6Len+udpLen && b[0]>>4 == 6:
		g.TTL = int(b[7])
		g.From, g.To = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		g.Payload = b[ipv6Len+udpLen:]
	default:
		return false
	}
	return g.From == g.To
}
