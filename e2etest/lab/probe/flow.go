package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// flow keeps one long TCP connection, on which it sends a line at every tick and
// waits for the same line to come back. A line that is late counts as lost but
// leaves the connection alone: TCP may yet recover it, as it would for any
// program. Only a connection that ends is broken and opened anew.
func flow(ctx context.Context, o Options, t Target) Result {
	log := &log{}
	tick := time.NewTicker(o.Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := oneFlow(ctx, o, t, log, tick); err != nil && ctx.Err() == nil {
			log.mu.Lock()
			log.broken++
			log.mu.Unlock()
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
	return log.result(t, time.Now())
}

// oneFlow runs one connection until it breaks or ctx ends.
func oneFlow(ctx context.Context, o Options, t Target, log *log, tick *time.Ticker) error {
	start := time.Now()
	conn, err := net.DialTimeout("tcp", t.Addr.String(), o.Timeout)
	if err != nil {
		log.end(log.begin(start), time.Since(start), err)
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	in := bufio.NewReader(conn)
	for n := 0; ; n++ {
		start := time.Now()
		err := exchange(conn, in, n)
		took := time.Since(start)
		if ctx.Err() != nil {
			return nil
		}
		slot := log.begin(start)
		if err != nil {
			log.end(slot, took, err)
			return err
		}
		if took > o.Timeout {
			err = errLate
		}
		log.end(slot, took, err)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// errLate says that an answer came, but after the timeout.
var errLate = errors.New("answered late")

// flowPatience is when a connection that answers nothing counts as broken.
const flowPatience = 30 * time.Second

// exchange sends a line and reads lines until it comes back: an echo server may
// greet first, and put its name before what it echoes.
func exchange(conn net.Conn, in *bufio.Reader, n int) error {
	if err := conn.SetDeadline(time.Now().Add(flowPatience)); err != nil {
		return err
	}
	line := fmt.Sprintf("probe %d\n", n)
	if _, err := conn.Write([]byte(line)); err != nil {
		return err
	}
	for {
		got, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasSuffix(got, line) {
			return nil
		}
	}
}
