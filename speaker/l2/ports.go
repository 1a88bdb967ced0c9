package l2

import (
	"net"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/speaker/observed"
)

// hwAddr is an Ethernet address.
type hwAddr [6]byte

var broadcast = hwAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// group tells whether the address is multicast or broadcast.
func (a hwAddr) group() bool { return a[0]&1 == 1 }

// usable tells whether the address can be that of one station.
func (a hwAddr) usable() bool { return a != hwAddr{} && !a.group() }

// A port is an interface as the packet path needs it. It is immutable.
type port struct {
	index int
	name  string
	mac   hwAddr
	// arp and ndp tell whether it can serve IPv4 and IPv6 now.
	arp, ndp bool
	// why explains what keeps it from serving, per protocol; "" if nothing.
	whyNoARP, whyNoNDP string

	reply         arpTemplate
	advertisement ndpTemplate
}

// equal tells whether two ports would act alike.
func (p *port) equal(q *port) bool {
	return p.index == q.index && p.name == q.name && p.mac == q.mac &&
		p.whyNoARP == q.whyNoARP && p.whyNoNDP == q.whyNoNDP
}

// serves tells whether the port can announce addr's family, and why not.
func (p *port) serves(addr netip.Addr) (bool, string) {
	if addr.Is4() {
		return p.arp, p.whyNoARP
	}
	return p.ndp, p.whyNoNDP
}

// newPort derives a port from a link.
func newPort(l observed.Link) *port {
	p := &port{index: l.Index, name: l.Name}
	if len(l.MAC) == len(p.mac) {
		p.mac = hwAddr(l.MAC)
	}
	p.whyNoARP, p.whyNoNDP = l.WhyNotIPv4(), l.WhyNotIPv6()
	p.arp, p.ndp = p.whyNoARP == "", p.whyNoNDP == ""
	if p.arp {
		p.reply = newARPTemplate(p.hardware())
	}
	if p.ndp {
		p.advertisement = newNDPTemplate(p.hardware())
	}
	return p
}

func (p *port) hardware() net.HardwareAddr { return p.mac[:] }

// ports are the interfaces of one moment, immutable.
type ports struct {
	byIndex map[int]*port
	byName  map[string]*port
	// own are the Ethernet addresses of all of them. Two interfaces of one node
	// may be on one segment and hear each other.
	own map[hwAddr]bool
	// v4 and v6 are those that can serve the family now, in index order.
	v4, v6 []*port
}

// newPorts derives the ports of links, keeping the values of old that did not
// change. It returns old itself when nothing did.
func newPorts(links observed.Links, old *ports) *ports {
	next := &ports{byIndex: make(map[int]*port, len(links)), byName: make(map[string]*port, len(links)), own: make(map[hwAddr]bool, len(links))}
	same := old != nil && len(old.byIndex) == len(links)
	for _, l := range links {
		p := newPort(l)
		if old != nil && old.byIndex[p.index] != nil && old.byIndex[p.index].equal(p) {
			p = old.byIndex[p.index]
		} else {
			same = false
		}
		next.byIndex[p.index], next.byName[p.name] = p, p
		if p.mac.usable() {
			next.own[p.mac] = true
		}
	}
	if same {
		return old
	}
	for _, p := range next.byIndex {
		if p.arp {
			next.v4 = append(next.v4, p)
		}
		if p.ndp {
			next.v6 = append(next.v6, p)
		}
	}
	byIndex := func(a, b *port) int { return a.index - b.index }
	slices.SortFunc(next.v4, byIndex)
	slices.SortFunc(next.v6, byIndex)
	return next
}

// of returns the ports from which e is announced, in index order. The result
// is shared and must not be changed.
func (ps *ports) of(e *entry) []*port {
	all := ps.v4
	if e.addr.Is6() {
		all = ps.v6
	}
	if e.interfaces == nil {
		return all
	}
	var some []*port
	for _, p := range all {
		if e.allows(p.name) {
			some = append(some, p)
		}
	}
	return some
}
