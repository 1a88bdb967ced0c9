package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// A handover keeps an address that changes hands from standing in two statuses:
// who gains it is written only after who lost it was cleared.
//
// A write that takes an address away never waits, so whoever waits here waits
// for a write that is under way, or is tried again until it succeeds. Two
// Services that swap addresses are thus both cleared before either is served.
type handover map[netip.Addr]*succession

// A succession is what is known of one address that changes hands. It lasts as
// long as there is somebody in former.
type succession struct {
	// former are the Services whose status may still show the address although
	// they lost it, heirs those that were held back because of that.
	former, heirs map[service.Key]struct{}
}

// lose notes that the Service lost the address and may still show it.
func (h handover) lose(addr netip.Addr, key service.Key) {
	s := h[addr]
	if s == nil {
		s = &succession{former: map[service.Key]struct{}{}, heirs: map[service.Key]struct{}{}}
		h[addr] = s
	}
	s.former[key] = struct{}{}
}

// clear notes that the Service no longer shows the address, or holds it again.
// It returns who need not wait any longer.
func (h handover) clear(addr netip.Addr, key service.Key) []service.Key {
	s := h[addr]
	if s == nil {
		return nil
	}
	delete(s.former, key)
	if len(s.former) > 0 {
		return nil
	}
	delete(h, addr)
	heirs := make([]service.Key, 0, len(s.heirs))
	for heir := range s.heirs {
		heirs = append(heirs, heir)
	}
	slices.SortFunc(heirs, func(a, b service.Key) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return heirs
}

// await returns a Service that has to be cleared before the address is written
// for key, and has key told of it; false when there is none.
func (h handover) await(addr netip.Addr, key service.Key) (service.Key, bool) {
	s := h[addr]
	if s == nil {
		return service.Key{}, false
	}
	for other := range s.former {
		s.heirs[key] = struct{}{}
		return other, true
	}
	return service.Key{}, false
}

// trace brings the handover up to what the Service may show and what was
// decided on it. Who is not served, or is gone, holds nobody up.
func (l *loop) trace(key service.Key, p *page) {
	var lost []netip.Addr
	if d, decided := l.alloc.Decision(key); decided && l.pages[key] == p {
		for _, addr := range p.shows {
			if !slices.Contains(d.Addresses, addr) {
				lost = append(lost, addr)
			}
		}
	}
	for _, addr := range p.fading {
		if slices.Contains(lost, addr) {
			continue
		}
		for _, heir := range l.handover.clear(addr, key) {
			if q := l.pages[heir]; q != nil {
				l.enqueue(heir, q)
			}
		}
	}
	for _, addr := range lost {
		l.handover.lose(addr, key)
	}
	p.fading = lost
}

// admit returns what may be written of a decision now: all of it, or, while an
// address of it still stands in the status of a Service that lost it, what is
// left of what the Service shows. It is false when that is no news either, and
// the Service just waits.
func (l *loop) admit(key service.Key, p *page, d ipam.Decision) (now ipam.Decision, whole, ok bool) {
	for _, addr := range d.Addresses {
		if slices.Contains(p.shows, addr) {
			continue
		}
		former, awaited := l.handover.await(addr, key)
		if !awaited {
			continue
		}
		if !p.held {
			p.held = true
			l.log.Info("an address is not written before its former holder's status is cleared",
				"service", key.String(), "ip", addr.String(), "former", former.String())
		}
		now = d
		now.Addresses = slices.DeleteFunc(slices.Clone(d.Addresses), func(a netip.Addr) bool { return !slices.Contains(p.shows, a) })
		now.Reason = reason.AddressInUse
		now.Message = fmt.Sprintf("%s still stands in the status of Service %s, which lost it", addr, former)
		if len(now.Addresses) == 0 {
			now.Pool = ""
		}
		return now, false, len(p.fading) > 0
	}
	p.held = false
	return d, true, true
}
