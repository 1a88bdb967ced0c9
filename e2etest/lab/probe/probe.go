// Package probe measures how long an address is out of service, from the network
// namespace that the program runs in: it opens a new connection every few
// milliseconds and notes which of them fail.
//
// It knows addresses and time, and nothing of a lab or of Kubernetes; it is run
// inside a client's namespace by the lab command.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Target is what a probe talks to, written like tcp://192.0.2.1:80.
type Target struct {
	// Protocol is "tcp" (a new connection each time, reset at once), "udp" (a
	// datagram from a new port each time, which must be answered) or "flow" (one
	// long TCP connection, on which every line must be echoed).
	Protocol string
	Addr     netip.AddrPort
}

// ParseTarget reads a target. Without a protocol it is tcp.
func ParseTarget(s string) (Target, error) {
	protocol, rest, ok := strings.Cut(s, "://")
	if !ok {
		protocol, rest = "tcp", s
	}
	if !slices.Contains([]string{"tcp", "udp", "flow"}, protocol) {
		return Target{}, fmt.Errorf("target %q: protocol %q, want tcp, udp or flow", s, protocol)
	}
	addr, err := netip.ParseAddrPort(rest)
	if err != nil {
		return Target{}, fmt.Errorf("target %q: want PROTOCOL://ADDRESS:PORT: %w", s, err)
	}
	return Target{Protocol: protocol, Addr: addr}, nil
}

// String writes a target as ParseTarget reads it.
func (t Target) String() string { return t.Protocol + "://" + t.Addr.String() }

// Options says how to probe.
type Options struct {
	Targets  []Target
	Interval time.Duration // between two probes of one target
	// Timeout is when a probe counts as lost. It has to be below a second, the
	// time after which TCP itself would send a lost SYN again and hide the loss.
	Timeout time.Duration
}

// Defaults for a resolution of a few milliseconds.
const (
	DefaultInterval = 5 * time.Millisecond
	DefaultTimeout  = 250 * time.Millisecond
	maxTimeout      = 900 * time.Millisecond
)

// Result is what happened to one target.
type Result struct {
	Target string
	Total  int
	Lost   int
	// Longest is the longest outage: from the start of the last probe that
	// succeeded before it to the start of the first that succeeded after it. It is
	// an upper bound, at most one interval above the truth, and 0 without a loss.
	Longest time.Duration
	// Since is when that outage began.
	Since time.Time
	// Open says that the target was still out of service at the end; Longest then
	// counts to the end.
	Open bool
	// P50, P99 and Max are the times the successful probes took.
	P50, P99, Max time.Duration
	// Errors counts what went wrong, by what it was.
	Errors map[string]int
	// Broken counts flows that ended and had to be opened anew ("flow" only).
	Broken int
}

// Run probes until ctx ends and returns a result for each target, in their order.
func Run(ctx context.Context, o Options) ([]Result, error) {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Timeout > maxTimeout {
		return nil, fmt.Errorf("probe timeout %s: want at most %s, or TCP's own repetition hides losses", o.Timeout, maxTimeout)
	}
	if len(o.Targets) == 0 {
		return nil, errors.New("no target to probe")
	}
	results := make([]Result, len(o.Targets))
	var group sync.WaitGroup
	for i, t := range o.Targets {
		group.Go(func() {
			if t.Protocol == "flow" {
				results[i] = flow(ctx, o, t)
			} else {
				results[i] = connections(ctx, o, t)
			}
		})
	}
	group.Wait()
	return results, nil
}

// connections sends independent probes at every tick.
func connections(ctx context.Context, o Options, t Target) Result {
	try := tcp
	if t.Protocol == "udp" {
		try = udp
	}
	log := &log{}
	var group sync.WaitGroup
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		start := time.Now()
		slot := log.begin(start)
		group.Go(func() {
			// Not bound to ctx: what has begun is finished, or the last probes of
			// every run would count as lost.
			err := try(t.Addr, o.Timeout)
			log.end(slot, time.Since(start), err)
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	group.Wait()
	return log.result(t, time.Now())
}

// tcp opens a connection and resets it, so that neither side keeps it in
// TIME_WAIT: at hundreds a second that would use up the ports.
func tcp(addr netip.AddrPort, timeout time.Duration) error {
	conn, err := net.DialTimeout("tcp", addr.String(), timeout)
	if err != nil {
		return err
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		conn.Close()
		return err
	}
	return conn.Close()
}

// udp sends a datagram from a new port and waits for any answer.
func udp(addr netip.AddrPort, timeout time.Duration) error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "probe\n"); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 2048))
	return err
}

// kind names an error for the count, without addresses and ports.
func kind(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "timeout"
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		err = e
	}
	return err.Error()
}
