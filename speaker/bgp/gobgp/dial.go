package gobgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/internal/reason"
)

const (
	// dialTime bounds one attempt to connect: three SYNs.
	dialTime = 5 * time.Second
	// trafficClass is network control, as routers mark BGP (CS6).
	trafficClass = 0xc0
	// minHopCount is IPV6_MINHOPCOUNT, which x/sys does not name.
	minHopCount = 73
)

// endpoint is how a session's socket is made.
type endpoint struct {
	remote netip.AddrPort
	// source is the local address, invalid to let the route decide.
	source netip.Addr
	// device is the VRF or interface to use, "" for the default.
	device string
	key    string
	hops   hopLimit
}

// hopLimit of packets sent; those received must have least or more. Zero leaves
// the kernel's.
type hopLimit struct{ send, least int }

// dial connects to the peer.
func (e endpoint) dial(ctx context.Context) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: dialTime, KeepAlive: -1}
	d.SetMultipathTCP(false) // its sockets know no TCP MD5
	if e.source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(e.source, 0))
	}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if e.device != "" {
				if err := unix.BindToDevice(fd, e.device); err != nil {
					return fmt.Errorf("bind to device %s: %w", e.device, err)
				}
			}
			if e.key != "" {
				if err := setKey(fd, netip.PrefixFrom(e.remote.Addr(), e.remote.Addr().BitLen()), e.key); err != nil {
					return err
				}
			}
			return e.hops.set(fd, e.remote.Addr().Is6())
		})
	}
	conn, err := d.DialContext(ctx, "tcp", e.target())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// target is the address to dial. The zone goes as a number: package net remembers
// the numbers of names for a minute, and an interface may have been made anew.
func (e endpoint) target() string {
	addr := e.remote.Addr()
	if ifi, err := net.InterfaceByName(addr.Zone()); err == nil {
		addr = addr.WithZone(strconv.Itoa(ifi.Index))
	}
	return netip.AddrPortFrom(addr, e.remote.Port()).String()
}

// control calls f with the socket of c.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// set sets the limits, and the traffic class, of a socket.
func (h hopLimit) set(fd int, v6 bool) error {
	level, class, send, least := unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL, unix.IP_MINTTL
	if v6 {
		level, class, send, least = unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS, minHopCount
	}
	for _, o := range []struct{ option, value int }{{class, trafficClass}, {send, h.send}, {least, h.least}} {
		if o.option == send && o.value == 0 {
			o.value = -1 // the kernel's default
		}
		if err := unix.SetsockoptInt(fd, level, o.option, o.value); err != nil {
			return fmt.Errorf("set the hop limit: %w", err)
		}
	}
	return nil
}

// setKey gives a socket the TCP MD5 key (RFC 2385) of some peers; "" takes it
// away.
func setKey(fd int, peers netip.Prefix, key string) error {
	sig := &unix.TCPMD5Sig{Keylen: uint16(len(key))}
	copy(sig.Key[:], key)
	// The structure of the C library: family, port, and the address.
	if addr := peers.Addr(); addr.Is4() {
		sig.Addr.Family = unix.AF_INET
		raw := addr.As4()
		copy(sig.Addr.Data[2:], raw[:])
	} else {
		sig.Addr.Family = unix.AF_INET6
		raw := addr.As16()
		copy(sig.Addr.Data[6:], raw[:])
	}
	option := unix.TCP_MD5SIG
	if !peers.IsSingleIP() {
		option = unix.TCP_MD5SIG_EXT
		sig.Flags, sig.Prefixlen = unix.TCP_MD5SIG_FLAG_PREFIX, uint8(peers.Bits())
	}
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, option, sig); err != nil {
		return fmt.Errorf("set the TCP MD5 key: %w", err)
	}
	return nil
}

// explain turns an error of dial into a reason and a sentence.
func (e endpoint) explain(err error) (reason.Reason, string) {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return reason.PeerRefuses, fmt.Sprintf("%s refuses the connection.", e.remote)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return reason.SourceAddressMissing, fmt.Sprintf("The node does not have the address %s.", e.source)
	case errors.Is(err, unix.ENODEV):
		return reason.PeerInterfaceMissing, fmt.Sprintf("The node has no device %s.", e.device)
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		hint := ""
		if e.hops.send == 1 {
			hint = " A peer of another AS that is more than one hop away needs ebgpMultiHop."
		}
		return reason.PeerUnreachable, fmt.Sprintf("There is no way to %s: %s.%s", e.remote.Addr(), bare(err), hint)
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		// The kernel drops what is signed otherwise than agreed, unanswered.
		hint := " A router that expects a password does not answer either."
		if e.key != "" {
			hint = " A router with another password, or none, does not answer either."
		}
		return reason.PeerSilent, fmt.Sprintf("%s does not answer.%s", e.remote, hint)
	}
	return reason.PeerUnreachable, fmt.Sprintf("Connecting to %s failed: %s.", e.remote, bare(err))
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// bare is the system's own word for an error.
func bare(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// localListener waits for the library.
type localListener struct {
	*net.TCPListener
	// secured is false where the kernel has no TCP MD5.
	secured bool
}

// listenLocal listens for one peer, the library, which has the key.
func listenLocal(ctx context.Context, at netip.AddrPort, key string) (*localListener, error) {
	secured := true
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			err := setKey(fd, netip.PrefixFrom(at.Addr(), at.Addr().BitLen()), key)
			if errors.Is(err, unix.ENOPROTOOPT) {
				secured, err = false, nil
			}
			return err
		})
	}}
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp4", at.String())
	if err != nil {
		return nil, fmt.Errorf("listen for the library: %w", err)
	}
	return &localListener{l.(*net.TCPListener), secured}, nil
}
