package link

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/observed"
)

// fakeKernel keeps interfaces like a kernel: a dump shows what is there, and
// subscribers hear of changes unless they are deaf.
type fakeKernel struct {
	mu       sync.Mutex
	dump     []netlink.Message
	sources  []*fakeSource
	dialFail int
	dials    int
}

type fakeSource struct {
	k      *fakeKernel
	events chan batch
	closed chan struct{}
	once   sync.Once
}

func (k *fakeKernel) dial() (source, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dials++
	if k.dialFail > 0 {
		k.dialFail--
		return nil, errors.New("no more sockets")
	}
	s := &fakeSource{k: k, events: make(chan batch, 100), closed: make(chan struct{})}
	k.sources = append(k.sources, s)
	return s, nil
}

// add makes an interface; heard tells whether its event arrives.
func (k *fakeKernel) add(m netlink.Message, heard bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dump = append(k.dump, m)
	if heard {
		k.sources[len(k.sources)-1].events <- batch{messages: []netlink.Message{m}}
	}
}

// fail makes the present connection fail.
func (k *fakeKernel) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sources[len(k.sources)-1].events <- batch{err: err}
}

func (s *fakeSource) Dump() ([]netlink.Message, error) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	return append([]netlink.Message(nil), s.k.dump...), nil
}

func (s *fakeSource) Receive() ([]netlink.Message, error) {
	select {
	case b := <-s.events:
		return b.messages, b.err
	case <-s.closed:
		return nil, errors.New("closed")
	}
}

func (s *fakeSource) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// watching runs a Watcher on a fake kernel until the test ends, and counts what
// it publishes.
func watching(t *testing.T, k *fakeKernel) (w *Watcher, published *int) {
	t.Helper()
	published = new(int)
	w = New(Config{Logger: slog.New(slog.DiscardHandler), OnChange: func(observed.Links) { *published++ }})
	w.dial = k.dial
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		for _, s := range k.sources {
			select {
			case <-s.closed:
			default:
				t.Error("Run left a connection open")
			}
		}
	})
	return w, published
}

func TestChangesOfOneMomentArePublishedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &fakeKernel{dump: []netlink.Message{newLink(t, 1, "lo", "", unix.IFF_UP|unix.IFF_LOOPBACK, 0)}}
		w, published := watching(t, k)
		synctest.Wait()
		if *published != 1 || len(w.Observed()) != 1 {
			t.Fatalf("after the start: published %d times, %d links; want 1 and 1", *published, len(w.Observed()))
		}
		k.add(newLink(t, 2, "eth0", "", running, 0), true)
		k.add(addr(t, unix.RTM_NEWADDR, 2, "10.0.0.5/24", 0), true)
		k.add(addr(t, unix.RTM_NEWADDR, 2, "fe80::5/64", 0), true)
		time.Sleep(settleMost)
		synctest.Wait()
		if *published != 2 {
			t.Errorf("published %d times, want once for the three events", *published-1)
		}
		if links := w.Observed(); len(links) != 2 || !links[1].LinkLocal.IsValid() {
			t.Errorf("links = %+v, want eth0 with its link-local address", links)
		}
	})
}

func TestEventsThatChangeNothingAreNotPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &fakeKernel{dump: []netlink.Message{newLink(t, 2, "eth0", "", running, 0)}}
		_, published := watching(t, k)
		synctest.Wait()
		k.add(newLink(t, 2, "eth0", "", running, 0), true)
		time.Sleep(settleMost)
		synctest.Wait()
		if *published != 1 {
			t.Errorf("published %d times, want the start alone", *published)
		}
	})
}

func TestLostEventsAreFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &fakeKernel{}
		w, _ := watching(t, k)
		synctest.Wait()
		k.add(newLink(t, 2, "eth0", "", running, 0), false)
		k.fail(unix.ENOBUFS)
		time.Sleep(retryFirst + settleMost)
		synctest.Wait()
		if links := w.Observed(); len(links) != 1 {
			t.Errorf("links = %+v, want eth0, of which no event arrived", links)
		}
	})
}

func TestUnreadableEventDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &fakeKernel{dump: []netlink.Message{
			{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: []byte{1, 2, 3}},
			newLink(t, 2, "eth0", "", running, 0),
		}}
		w, _ := watching(t, k)
		synctest.Wait()
		if links := w.Observed(); len(links) != 1 || links[0].Name != "eth0" {
			t.Errorf("links = %+v, want eth0", links)
		}
	})
}

func TestFailingConnectionIsRetriedMoreAndMoreSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &fakeKernel{dialFail: 1000}
		w, _ := watching(t, k)
		time.Sleep(time.Minute)
		synctest.Wait()
		// 0.1 + 0.2 + … + 6.4 s make 12.7 s for 8 attempts, then every 10 s.
		if k.dials < 8 || k.dials > 14 {
			t.Errorf("%d attempts in a minute, want about a dozen", k.dials)
		}
		if w.Observed() != nil {
			t.Errorf("links = %+v, want nil while they are not known", w.Observed())
		}
		k.mu.Lock()
		k.dialFail = 0
		k.dump = []netlink.Message{newLink(t, 2, "eth0", "", running, 0)}
		k.mu.Unlock()
		time.Sleep(retryMost)
		synctest.Wait()
		if len(w.Observed()) != 1 {
			t.Errorf("links = %+v, want eth0 after the failures ended", w.Observed())
		}
	})
}
