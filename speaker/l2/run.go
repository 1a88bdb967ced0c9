package l2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// frameSize holds every ARP frame and every solicitation: their options are
// short, and what follows the known ones does not matter.
const frameSize = 2048

// Run opens the sockets and answers until ctx ends; then it stops at once and
// returns nil after its goroutines have ended. An error means that the sockets
// could not be opened.
func (a *Announcer) Run(ctx context.Context) error {
	k, err := a.open()
	if err != nil {
		return fmt.Errorf("open the layer 2 sockets: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = k.Close() })
	var readers sync.WaitGroup
	defer func() {
		stop()
		_ = k.Close()
		readers.Wait()
	}()
	for p := range protocols {
		readers.Go(func() { a.read(ctx, k, p) })
	}

	l := newLoop(a, k)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.wake:
		case <-timer.C:
		}
		now := time.Now()
		if next := l.step(now); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(next.Sub(now))
		}
	}
}

// read answers the frames of one protocol.
func (a *Announcer) read(ctx context.Context, k kernel, p protocol) {
	frame, reply := make([]byte, frameSize), make([]byte, 0, frameSize)
	pause := time.Duration(0)
	for {
		n, index, err := k.Receive(p, frame)
		if ctx.Err() != nil || errors.Is(err, errClosed) {
			return
		}
		if err != nil {
			a.metrics.errors.Add(1)
			if pause == 0 && !errors.Is(err, errLinkGone) {
				a.log.Warn("cannot receive frames", "protocol", p.String(), "err", err)
			}
			pause = min(max(2*pause, 10*time.Millisecond), time.Second)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		pause = 0
		a.metrics.received.Add(1)
		a.handle(k, p, index, frame[:n], reply)
	}
}

// handle answers one frame.
func (a *Announcer) handle(k kernel, p protocol, index int, frame, buf []byte) {
	reply, e, what := a.decide(p, index, frame, buf)
	switch what {
	case malformed:
		a.metrics.malformed.Add(1)
	case foreign:
		a.heardForeign(e, index, frame)
	case answered:
		e.tally.requests.Add(1)
		// A failure here is the interface's end or a full queue; the asker
		// repeats its question.
		if err := k.Send(p, index, reply); err != nil {
			a.metrics.errors.Add(1)
			return
		}
		e.tally.responses.Add(1)
	}
}

// decide is the whole decision on one frame: it takes no lock and allocates
// nothing.
func (a *Announcer) decide(p protocol, index int, frame, buf []byte) ([]byte, *entry, verdict) {
	ports := a.ports.Load()
	port := ports.byIndex[index]
	switch {
	case port == nil:
		return nil, nil, ignored
	case p == protoARP && port.arp:
		return respondARP(frame, &a.table, ports, port, buf[:0])
	case p == protoNDP && port.ndp:
		return respondNDP(frame, &a.table, ports, port, buf[:0])
	}
	return nil, nil, ignored
}

func (a *Announcer) portName(index int) string {
	if p := a.ports.Load().byIndex[index]; p != nil {
		return p.name
	}
	return ""
}
