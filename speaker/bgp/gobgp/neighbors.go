package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"

	"github.com/heraldlb/herald/internal/reason"
)

const (
	// advertiseEvery is the time between our router advertisements, solicitEvery
	// that between questions while no router is known (RFC 4861, section 10).
	advertiseEvery = 10 * time.Second
	solicitEvery   = 4 * time.Second
	// routerTime and answerTime are how long a router counts after its
	// advertisement, and after its answer to a ping.
	routerTime = 30 * time.Minute
	answerTime = 30 * time.Second
	// findTime is how long a session waits for a neighbour before it says that
	// there is none.
	findTime = 3 * time.Second
	// maxRouters bounds the stations remembered of one link.
	maxRouters = 16
)

var (
	allNodes   = &net.IPAddr{IP: net.ParseIP("ff02::1")}
	allRouters = &net.IPAddr{IP: net.ParseIP("ff02::2")}
)

// neighbors finds the router at the other end of an unnumbered session's
// interface. It listens for router advertisements, and sends its own: routers
// such as FRR only begin when they hear one. A router that sends none is found by
// its answer to a ping of all routers.
type neighbors struct {
	log  *slog.Logger
	wake chan struct{}

	// mu guards what follows.
	mu      sync.Mutex
	links   map[string]*station
	changed chan struct{} // closed, and made anew, when a router is heard
}

// station is what was heard on one interface.
type station struct {
	// advertised and answered are when each router last did so.
	advertised, answered map[netip.Addr]time.Time
	nextAdvert, nextAsk  time.Time
}

func newNeighbors(log *slog.Logger) *neighbors {
	return &neighbors{
		log: log, wake: make(chan struct{}, 1), links: make(map[string]*station), changed: make(chan struct{}),
	}
}

// set replaces the interfaces that unnumbered sessions use.
func (n *neighbors) set(names []string) {
	n.mu.Lock()
	for name := range n.links {
		if !slices.Contains(names, name) {
			delete(n.links, name)
		}
	}
	for _, name := range names {
		if n.links[name] == nil {
			n.links[name] = &station{advertised: make(map[netip.Addr]time.Time), answered: make(map[netip.Addr]time.Time)}
		}
	}
	n.mu.Unlock()
	poke(n.wake)
}

// find returns the router's link-local address, with the zone, and waits a
// moment for one.
func (n *neighbors) find(ctx context.Context, name string) (netip.Addr, reason.Reason, string) {
	if _, err := net.InterfaceByName(name); err != nil {
		return netip.Addr{}, reason.PeerInterfaceMissing, fmt.Sprintf("The node has no interface %s.", name)
	}
	timer := time.NewTimer(findTime)
	defer timer.Stop()
	for {
		n.mu.Lock()
		candidates := n.links[name].routers(time.Now())
		changed := n.changed
		n.mu.Unlock()
		switch {
		case len(candidates) == 1:
			return candidates[0].WithZone(name), "", ""
		case len(candidates) > 1:
			var list []string
			for _, c := range candidates {
				list = append(list, c.String())
			}
			return netip.Addr{}, reason.NeighborUnknown,
				fmt.Sprintf("There are several routers on %s: %s.", name, strings.Join(list, ", "))
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, reason.NeighborUnknown, "The search was ended."
		case <-changed:
		case <-timer.C:
			return netip.Addr{}, reason.NeighborUnknown, fmt.Sprintf("No router was heard on %s.", name)
		}
	}
}

// routers are those of an interface: who advertises, or else who answers.
func (s *station) routers(now time.Time) []netip.Addr {
	if s == nil {
		return nil
	}
	for _, heard := range []map[netip.Addr]time.Time{s.advertised, s.answered} {
		keep := routerTime
		if len(s.advertised) == 0 {
			keep = answerTime
		}
		maps.DeleteFunc(heard, func(_ netip.Addr, at time.Time) bool { return now.Sub(at) > keep })
		if len(heard) > 0 {
			return slices.SortedFunc(maps.Keys(heard), netip.Addr.Compare)
		}
	}
	return nil
}

// run listens and advertises until ctx ends; it opens its socket when it is
// first needed.
func (n *neighbors) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !n.needed() {
			select {
			case <-ctx.Done():
				return
			case <-n.wake:
			}
			continue
		}
		if err := n.serve(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("cannot find the routers of unnumbered peers", "err", err)
			sleep(ctx, solicitEvery)
		}
	}
}

func (n *neighbors) needed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.links) > 0
}

// serve uses one socket until nobody needs it.
func (n *neighbors) serve(ctx context.Context) error {
	conn, err := icmp.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("open an ICMPv6 socket: %w", err)
	}
	var listener sync.WaitGroup
	defer listener.Wait()
	defer conn.Close()
	p := conn.IPv6PacketConn()
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	filter.Accept(ipv6.ICMPTypeEchoReply)
	for _, err := range []error{
		p.SetICMPFilter(&filter),
		p.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		p.SetMulticastHopLimit(255),
		p.SetMulticastLoopback(false),
	} {
		if err != nil {
			return fmt.Errorf("prepare the ICMPv6 socket: %w", err)
		}
	}
	listener.Go(func() { n.listen(p) })
	for n.needed() {
		next := n.speak(p, time.Now())
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// speak sends what is due and returns when the next is.
func (n *neighbors) speak(p *ipv6.PacketConn, now time.Time) time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	next := now.Add(advertiseEvery)
	for name, s := range n.links {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			continue // it may come
		}
		if !now.Before(s.nextAdvert) {
			n.send(p, ifi, routerAdvertisement(ifi.HardwareAddr), allNodes)
			s.nextAdvert = now.Add(advertiseEvery)
		}
		if len(s.advertised) == 0 && !now.Before(s.nextAsk) {
			n.send(p, ifi, routerSolicitation(ifi.HardwareAddr), allRouters)
			n.send(p, ifi, ping(), allRouters)
			s.nextAsk = now.Add(solicitEvery)
		}
		for _, t := range []time.Time{s.nextAdvert, s.nextAsk} {
			if t.After(now) && t.Before(next) {
				next = t
			}
		}
	}
	return next
}

func (n *neighbors) send(p *ipv6.PacketConn, ifi *net.Interface, b []byte, to net.Addr) {
	if _, err := p.WriteTo(b, &ipv6.ControlMessage{IfIndex: ifi.Index, HopLimit: 255}, to); err != nil {
		n.log.Debug("cannot send on the link of an unnumbered peer", "interface", ifi.Name, "err", err)
	}
}

// listen notes who advertises and who answers.
func (n *neighbors) listen(p *ipv6.PacketConn) {
	b := make([]byte, 1500)
	for {
		size, cm, from, err := p.ReadFrom(b)
		if err != nil {
			return // closed
		}
		addr, ok := from.(*net.IPAddr)
		if !ok || cm == nil || size < 8 {
			continue
		}
		source, ok := netip.AddrFromSlice(addr.IP)
		ifi, err := net.InterfaceByIndex(cm.IfIndex)
		if err == nil && ok && source.IsLinkLocalUnicast() {
			n.heard(ifi.Name, source, ipv6.ICMPType(b[0]), cm.HopLimit)
		}
	}
}

// heard takes note of one message.
func (n *neighbors) heard(name string, source netip.Addr, t ipv6.ICMPType, hops int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.links[name]
	if s == nil {
		return
	}
	into := s.answered
	if t == ipv6.ICMPTypeRouterAdvertisement {
		if hops != 255 { // RFC 4861, section 6.1.2: not from this link
			return
		}
		into = s.advertised
	}
	_, known := into[source]
	if !known && len(into) >= maxRouters {
		return
	}
	into[source] = time.Now()
	if !known {
		close(n.changed)
		n.changed = make(chan struct{})
	}
}

// routerAdvertisement says that we are here, and no default router: its lifetime
// is 0 (RFC 4861, section 4.2). The kernel fills in the checksum.
func routerAdvertisement(mac net.HardwareAddr) []byte {
	return withMAC([]byte{134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, mac)
}

// routerSolicitation asks routers to advertise now (RFC 4861, section 4.1).
func routerSolicitation(mac net.HardwareAddr) []byte {
	return withMAC([]byte{133, 0, 0, 0, 0, 0, 0, 0}, mac)
}

// ping is an echo request.
func ping() []byte { return []byte{128, 0, 0, 0, 0x48, 0x4c, 0, 1} }

// withMAC appends the source link-layer address option.
func withMAC(b []byte, mac net.HardwareAddr) []byte {
	if len(mac) == 6 {
		b = append(append(b, 1, 1), mac...)
	}
	return b
}
