package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// maxLine bounds what a client can make the server hold.
const maxLine = 64 << 10

// idle ends a TCP connection on which nothing was said for so long.
const idle = 10 * time.Minute

// server answers on up to three sockets.
type server struct {
	pod                                 string
	httpAddress, tcpAddress, udpAddress string
	grace                               time.Duration

	leaving atomic.Bool
	// listening is told every address that is served; tests wait for it.
	listening func(network, address string)

	tcpOpen sync.Map // net.Conn → struct{}: connections to close at the end
}

// run serves until ctx is done, keeps serving for the grace, then closes. It
// returns when every goroutine that it started has ended.
func (s *server) run(ctx context.Context) error {
	life, end := context.WithCancelCause(context.Background())
	defer end(nil)
	var parts sync.WaitGroup
	serve := func(network, address string, open func(string) (func() error, func(), string, error)) error {
		if address == "" {
			return nil
		}
		work, shut, local, err := open(address)
		if err != nil {
			return fmt.Errorf("listen on %s %s: %w", network, address, err)
		}
		fmt.Printf("pod=%s serves %s on %s\n", s.pod, network, local)
		if s.listening != nil {
			s.listening(network, local)
		}
		parts.Go(func() {
			if err := work(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
				end(fmt.Errorf("serve %s on %s: %w", network, local, err))
			}
		})
		parts.Go(func() {
			<-life.Done()
			shut()
		})
		return nil
	}
	err := errors.Join(
		serve("http", s.httpAddress, s.openHTTP),
		serve("tcp", s.tcpAddress, s.openTCP),
		serve("udp", s.udpAddress, s.openUDP),
	)
	if err == nil {
		select {
		case <-ctx.Done():
			s.leaving.Store(true)
			select {
			case <-time.After(s.grace):
			case <-life.Done():
			}
		case <-life.Done():
		}
	}
	end(err)
	parts.Wait()
	if err := context.Cause(life); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// answer is the one sentence that every protocol gives.
func (s *server) answer(client, local net.Addr) string {
	return fmt.Sprintf("pod=%s client=%s server=%s", s.pod, plain(client), plain(local))
}

// plain writes an IPv4 address as such, also when it came through a socket for
// both families.
func plain(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
}

func (s *server) openHTTP(address string) (work func() error, shut func(), local string, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, "", err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		client, err := net.ResolveTCPAddr("tcp", req.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, s.answer(client, req.Context().Value(http.LocalAddrContextKey).(net.Addr)))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if s.leaving.Load() {
			http.Error(w, "leaving", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	shut = func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(ctx) != nil {
			srv.Close()
		}
	}
	return func() error { return srv.Serve(l) }, shut, l.Addr().String(), nil
}

// openTCP greets each connection with the answer, then sends back each line
// with the pod's name before it, for as long as the client likes.
func (s *server) openTCP(address string) (work func() error, shut func(), local string, err error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, "", err
	}
	var conns sync.WaitGroup
	work = func() error {
		defer conns.Wait()
		for {
			conn, err := l.Accept()
			if err != nil {
				return err
			}
			s.tcpOpen.Store(conn, struct{}{})
			conns.Go(func() {
				defer s.tcpOpen.Delete(conn)
				defer conn.Close()
				s.talk(conn)
			})
		}
	}
	shut = func() {
		l.Close()
		s.tcpOpen.Range(func(conn, _ any) bool {
			conn.(net.Conn).Close()
			return true
		})
	}
	return work, shut, l.Addr().String(), nil
}

func (s *server) talk(conn net.Conn) {
	if _, err := fmt.Fprintln(conn, s.answer(conn.RemoteAddr(), conn.LocalAddr())); err != nil {
		return
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, maxLine)
	for {
		if conn.SetReadDeadline(time.Now().Add(idle)) != nil || !lines.Scan() {
			return
		}
		if _, err := fmt.Fprintf(conn, "%s: %s\n", s.pod, lines.Text()); err != nil {
			return
		}
	}
}

// openUDP answers each packet with the sentence and the packet itself.
func (s *server) openUDP(address string) (work func() error, shut func(), local string, err error) {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, nil, "", err
	}
	work = func() error {
		buf := make([]byte, maxLine)
		for {
			n, client, err := c.ReadFrom(buf)
			if err != nil {
				return err
			}
			// One client that cannot be answered is no reason to stop.
			_, _ = c.WriteTo(fmt.Appendf(nil, "%s\n%s", s.answer(client, c.LocalAddr()), buf[:n]), client)
		}
	}
	return work, func() { c.Close() }, c.LocalAddr().String(), nil
}
