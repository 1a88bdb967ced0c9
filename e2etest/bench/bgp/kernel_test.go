//go:build lab

package bgp

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A kernelTable is the routes to Services in the kernel of a router, as the
// kernel tells of them.
type kernelTable struct {
	router string

	mu     sync.Mutex // guards the rest
	routes map[netip.Prefix]time.Time
	// losses counts routes that went.
	losses int
	last   time.Time
	err    error
	more   chan struct{} // closed with the next change
}

// eventBuffer holds tens of thousands of events, in case this program has to wait
// for a processor.
const eventBuffer = 64 << 20

// watchKernel follows the table of a router until the benchmark ends.
func (r *rig) watchKernel(n *router) *kernelTable {
	r.Helper()
	k := &kernelTable{router: n.name, routes: map[netip.Prefix]time.Time{}, more: make(chan struct{})}
	events, done := make(chan netlink.RouteUpdate, 1024), make(chan struct{})
	// The socket belongs to the namespace of the thread that opens it.
	r.must(n.net.Do(func() error {
		return netlink.RouteSubscribeWithOptions(events, done, netlink.RouteSubscribeOptions{
			ReceiveBufferSize: eventBuffer, ReceiveBufferForceSize: true, ErrorCallback: k.fail,
		})
	}))
	r.Cleanup(func() { close(done) })
	go func() {
		for e := range events {
			k.take(e, time.Now())
		}
	}()
	return k
}

func (k *kernelTable) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = fmt.Errorf("follow the routes of %s: %w", k.router, err)
	k.tell()
}

// tell wakes those who wait; mu is held.
func (k *kernelTable) tell() {
	close(k.more)
	k.more = make(chan struct{})
}

func (k *kernelTable) take(e netlink.RouteUpdate, at time.Time) {
	if e.Dst == nil {
		return
	}
	addr, ok := netip.AddrFromSlice(e.Dst.IP)
	bits, _ := e.Dst.Mask.Size()
	prefix := netip.PrefixFrom(addr.Unmap(), bits)
	if !ok || !pool.Contains(prefix.Addr()) || e.Table != unix.RT_TABLE_MAIN {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.last = at
	if e.Type == unix.RTM_DELROUTE {
		k.losses++
		delete(k.routes, prefix)
	} else if _, had := k.routes[prefix]; !had {
		k.routes[prefix] = at
	}
	k.tell()
}

// has returns when a route came, the zero time if it is not there.
func (k *kernelTable) has(p netip.Prefix) time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.routes[p]
}

// state is how many routes there are, when the last change was, and how many
// routes went so far.
func (k *kernelTable) state() (routes int, last time.Time, losses int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.routes), k.last, k.losses
}

// await waits, without polling, until a condition of the table holds.
func (r *rig) await(k *kernelTable, what string, condition func() bool) {
	r.Helper()
	end := time.NewTimer(patience)
	defer end.Stop()
	for {
		k.mu.Lock()
		more, err := k.more, k.err
		k.mu.Unlock()
		r.must(err)
		if condition() {
			return
		}
		select {
		case <-more:
		case <-end.C:
			routes, _, _ := k.state()
			r.Fatalf("%s: not within %s; the kernel of %s has %d routes", what, patience, k.router, routes)
		case <-r.ctx.Done():
			r.Fatalf("%s: the benchmark's time is over", what)
		}
	}
}

// awaitRoutes waits until the kernel of each router has this many routes.
func (r *rig) awaitRoutes(count int, routers ...*router) {
	r.Helper()
	for _, n := range routers {
		r.await(n.kernel, fmt.Sprintf("%s has %d routes", n.name, count), func() bool {
			routes, _, _ := n.kernel.state()
			return routes == count
		})
	}
}
