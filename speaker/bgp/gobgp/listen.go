package gobgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/desired"
)

const (
	// listenPort is where peers dial, whatever port we dial.
	listenPort = 179
	// listenRetry is the wait before a port is tried again.
	listenRetry = 5 * time.Second
)

// port is what one passive or dynamic peer needs of a listening socket.
type port struct {
	v6     bool
	device string
	// peers dial it, and sign with key if it is not "".
	peers netip.Prefix
	key   string
}

// same tells whether two peers share a socket.
func (p port) same(q port) bool { return p.v6 == q.v6 && p.device == q.device }

// portsOf are the sockets that a session needs: none unless it is passive.
func portsOf(s desired.Session) []port {
	p := port{device: s.VRF, key: s.Key}
	switch {
	case !s.Passive:
		return nil
	case s.Prefix.IsValid():
		p.peers = s.Prefix.Masked()
	case s.Interface != "":
		p.peers, p.device = netip.PrefixFrom(netip.MustParseAddr("fe80::"), 10), s.Interface
	default:
		p.peers = netip.PrefixFrom(s.Address.WithZone(""), s.Address.BitLen())
	}
	p.v6 = p.peers.Addr().Is6()
	return []port{p}
}

// listeners keeps the listening sockets: one for each family and device that a
// passive peer needs, and none otherwise.
type listeners struct {
	log    *slog.Logger
	accept func(port, *net.TCPConn)
	taken  func(port, error)
	wake   chan struct{}

	// mu guards want.
	mu   sync.Mutex
	want []port
}

func newListeners(log *slog.Logger, accept func(port, *net.TCPConn), taken func(port, error)) *listeners {
	return &listeners{log: log, accept: accept, taken: taken, wake: make(chan struct{}, 1)}
}

// set replaces what is needed.
func (l *listeners) set(want []port) {
	l.mu.Lock()
	l.want = want
	l.mu.Unlock()
	poke(l.wake)
}

// socket is one open port.
type socket struct {
	port
	*net.TCPListener
	keys map[netip.Prefix]string
	done chan struct{}
}

// run keeps the sockets until ctx ends.
func (l *listeners) run(ctx context.Context) {
	var open []*socket
	defer func() {
		for _, s := range open {
			_ = s.Close()
			<-s.done
		}
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
		l.mu.Lock()
		want := slices.Clone(l.want)
		l.mu.Unlock()
		open = l.reconcile(ctx, open, want)
		timer.Reset(listenRetry)
	}
}

// reconcile opens and closes sockets, and changes their keys.
func (l *listeners) reconcile(ctx context.Context, open []*socket, want []port) []*socket {
	open = slices.DeleteFunc(open, func(s *socket) bool {
		ended := false
		select {
		case <-s.done:
			ended = true
		default:
		}
		if !ended && slices.ContainsFunc(want, s.same) {
			return false
		}
		_ = s.Close()
		<-s.done
		return true
	})
	for i, p := range want {
		if slices.ContainsFunc(want[:i], p.same) {
			continue
		}
		at := slices.IndexFunc(open, func(s *socket) bool { return s.same(p) })
		if at < 0 {
			s, err := l.listen(ctx, p)
			l.taken(p, err)
			if err != nil {
				l.log.Debug("cannot listen for BGP peers", "interface", p.device, "err", err)
				continue
			}
			open, at = append(open, s), len(open)
		}
		if err := open[at].secure(want); err != nil {
			l.log.Error("cannot set the keys of passive peers", "err", err)
		}
	}
	return open
}

// listen opens a port. Its keys are set before anybody can connect.
func (l *listeners) listen(ctx context.Context, p port) (*socket, error) {
	lc := net.ListenConfig{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if p.device != "" {
				if err := unix.BindToDevice(fd, p.device); err != nil {
					return err
				}
			}
			// A peer with GTSM takes the answer to its SYN only so.
			return hopLimit{send: 255}.set(fd, p.v6)
		})
	}}
	lc.SetMultipathTCP(false)
	network, host := "tcp4", "0.0.0.0"
	if p.v6 {
		network, host = "tcp6", "[::]"
	}
	raw, err := lc.Listen(ctx, network, fmt.Sprintf("%s:%d", host, listenPort))
	if err != nil {
		return nil, err
	}
	s := &socket{port: p, TCPListener: raw.(*net.TCPListener), keys: make(map[netip.Prefix]string), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for {
			conn, err := s.AcceptTCP()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				// The room opens it again after a while.
				l.log.Warn("cannot accept BGP connections", "err", err)
				_ = s.Close()
				return
			}
			l.accept(p, conn)
		}
	}()
	return s, nil
}

// secure gives the socket the keys of those that use it, and takes others away.
func (s *socket) secure(want []port) error {
	keys := make(map[netip.Prefix]string)
	for _, p := range want {
		if p.same(s.port) && p.key != "" {
			keys[p.peers] = p.key
		}
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	return control(raw, func(fd int) error {
		var errs []error
		for p := range s.keys {
			if _, ok := keys[p]; !ok {
				errs = append(errs, setKey(fd, p, ""))
				delete(s.keys, p)
			}
		}
		for p, key := range keys {
			if s.keys[p] != key {
				errs = append(errs, setKey(fd, p, key))
				s.keys[p] = key
			}
		}
		return errors.Join(errs...)
	})
}
