package report

import (
	"context"
	"net/netip"
	"strings"
	"time"

	"github.com/heraldlb/herald/internal/service"
)

// Reached is called when Config.Unreached may have other answers.
func (r *Reporter) Reached() { signal(r.reach) }

// runReach looks, once things had time to settle, for addresses that this node
// owns and that none of its interfaces announces.
func (r *Reporter) runReach(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.reach:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reachWithin):
		}
		r.lookForUnreached()
	}
}

// lookForUnreached notes of each Service what keeps it from being announced.
func (r *Reporter) lookForUnreached() {
	for key, addresses := range r.announcing() {
		var why []string
		for _, a := range addresses {
			if sentence := r.unreached(a); sentence != "" {
				why = append(why, a.String()+": "+sentence)
			}
		}
		text := strings.Join(why, " ")
		r.mu.Lock()
		if e := r.entries[key]; e != nil && e.layer2 != nil && e.layer2.Announce && e.unreached != text {
			e.unreached = text
			r.queue.Add(key)
		}
		r.mu.Unlock()
	}
}

// announcing returns the addresses of the Services that this node announces on
// layer 2.
func (r *Reporter) announcing() map[service.Key][]netip.Addr {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[service.Key][]netip.Addr{}
	for key, e := range r.entries {
		if e.layer2 != nil && e.layer2.Announce {
			all[key] = e.layer2.Addresses
		}
	}
	return all
}
