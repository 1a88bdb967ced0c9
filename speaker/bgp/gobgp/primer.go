package gobgp

import (
	"context"
	"time"

	"github.com/osrg/gobgp/v4/api"
)

// A primer has the library's side of the next connection ready while the peer's
// is still awaited: the library takes up to 2 s to dial. It belongs to one
// goroutine.
type primer struct {
	lib    *library
	future *future
	began  time.Time
}

// future is a primed connection to be.
type future struct {
	done   chan struct{}
	cancel context.CancelFunc
	primed *primed
	err    error
}

// want begins to prime unless that is done or under way.
func (p *primer) want(ctx context.Context, peer *api.Peer) {
	if p.future != nil && time.Since(p.began) < freshTime {
		return
	}
	p.drop()
	ctx, cancel := context.WithCancel(ctx)
	f := &future{done: make(chan struct{}), cancel: cancel}
	p.future, p.began = f, time.Now()
	go func() {
		defer close(f.done)
		f.primed, f.err = p.lib.prime(ctx, peer)
	}()
}

// take hands over the connection; the next must be wanted anew.
func (p *primer) take(ctx context.Context) (*primed, error) {
	f := p.future
	p.future = nil
	select {
	case <-f.done:
	case <-ctx.Done():
	}
	f.cancel()
	<-f.done
	return f.primed, f.err
}

// drop gives up what was wanted.
func (p *primer) drop() {
	f := p.future
	p.future = nil
	if f == nil {
		return
	}
	f.cancel()
	<-f.done
	if f.primed != nil {
		_ = f.primed.conn.Close()
	}
	p.lib.unprime()
}
