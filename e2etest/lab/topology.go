package lab

import (
	"fmt"
	"net/netip"
	"slices"
)

// Topology names the shape of a lab's network.
type Topology string

// The topologies. In all but Flat, each segment has a router as its machines'
// gateway, and the clients are behind a router. Routers accept the nodes as BGP
// neighbours, over IPv4 and over IPv6, as RouterText writes it.
const (
	// Flat is segments without routers; Options.Segments says who is on which.
	Flat Topology = "flat"
	// ToR is one rack: the nodes, an FRR router named tor1, the clients behind it.
	//
	//	node1..N ── segment 0 ── tor1 ── segment 1 ── clients
	ToR Topology = "tor"
	// Racks is two racks, each with an FRR router, and a BIRD router as spine. The
	// first half of the nodes is in the first rack.
	//
	//	node1.. ── segment 0 ── tor1 ── segment 3 ──┐
	//	                                            spine ── segment 2 ── clients
	//	..nodeN ── segment 1 ── tor2 ── segment 4 ──┘
	Racks Topology = "racks"
	// Multihop has the router that the nodes peer with two hops away: core, an FRR
	// route reflector, iBGP. The router between, hop, learns from it where the
	// addresses are; nodes do not peer with hop.
	//
	//	node1..N ── segment 0 ── hop ── segment 2 ── core ── segment 1 ── clients
	Multihop Topology = "multihop"
	// V6Only is ToR with a router that has IPv6 addresses only and speaks BGP over
	// IPv6 only. The nodes have IPv6 only too, unless Options.Families says dual.
	V6Only Topology = "v6only"
)

// Topologies are all of them, in the order in which a reader meets them.
func Topologies() []Topology { return []Topology{Flat, ToR, Racks, Multihop, V6Only} }

// RouterKind says which routing daemons a router runs.
type RouterKind string

// The kinds of routers.
const (
	// FRR runs zebra, bgpd and bfdd.
	FRR RouterKind = "frr"
	// BIRD runs BIRD 2.
	BIRD RouterKind = "bird"
)

// Router is a machine that routes between segments and speaks BGP.
type Router struct {
	Host
	Kind RouterKind
	ASN  uint32
	ID   netip.Addr // its router ID
	// Ranges are the prefixes from which it lets nodes connect.
	Ranges []netip.Prefix
	// Neighbors are the routers it peers with.
	Neighbors []Neighbor
	// Reflects says that it is a route reflector of its iBGP neighbours.
	Reflects bool
	// Routes are static: those of nodes and pods. A router without its daemons
	// still carries what the cluster itself needs.
	Routes []Route
}

// Neighbor is a router as another one sees it.
type Neighbor struct {
	Name string
	ASN  uint32
	Addr netip.Addr
}

// Route is one route of a machine.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr
}

// blueprint is a topology before it gets addresses.
type blueprint struct {
	segments []SegmentOptions
	routers  []routerPlan
	// links are the pairs of routers that peer.
	links [][2]string
}

// routerPlan is a router before it gets addresses.
type routerPlan struct {
	name string
	kind RouterKind
	asn  uint32
	// gateway lists the segments whose gateway it is, with the number 1.
	gateway []int
	// serves lists the segments whose nodes peer with it.
	serves   []int
	reflects bool
	// toward says through which router it reaches the hosts of a segment that it
	// is not on; the segment -1 is all others.
	toward map[int]string
}

// The autonomous systems of the presets.
const (
	DefaultNodeASN  = 64500
	defaultToRASN   = 64601 // tor2 has the next
	defaultSpineASN = 64700
)

// blueprint is the plan that a topology stands for.
func (o Options) blueprint() blueprint {
	var nodes, clients []string
	for i := range o.Nodes {
		nodes = append(nodes, nodeName(i))
	}
	for i := range o.Clients {
		clients = append(clients, clientName(i))
	}
	on := func(hosts []string, more ...string) SegmentOptions {
		return SegmentOptions{Hosts: slices.Concat(hosts, more)}
	}
	switch o.Topology {
	case ToR, V6Only:
		return blueprint{
			segments: []SegmentOptions{on(nodes, "tor1"), on(clients, "tor1")},
			routers:  []routerPlan{{name: "tor1", kind: FRR, asn: defaultToRASN, gateway: []int{0, 1}, serves: []int{0}}},
		}
	case Racks:
		half := (len(nodes) + 1) / 2
		return blueprint{
			segments: []SegmentOptions{on(nodes[:half], "tor1"), on(nodes[half:], "tor2"), on(clients, "spine"),
				on(nil, "tor1", "spine"), on(nil, "tor2", "spine")},
			routers: []routerPlan{
				{name: "tor1", kind: FRR, asn: defaultToRASN, gateway: []int{0}, serves: []int{0}, toward: map[int]string{-1: "spine"}},
				{name: "tor2", kind: FRR, asn: defaultToRASN + 1, gateway: []int{1}, serves: []int{1}, toward: map[int]string{-1: "spine"}},
				{name: "spine", kind: BIRD, asn: defaultSpineASN, gateway: []int{2, 3, 4}, toward: map[int]string{0: "tor1", 1: "tor2"}},
			},
			links: [][2]string{{"tor1", "spine"}, {"tor2", "spine"}},
		}
	case Multihop:
		return blueprint{
			segments: []SegmentOptions{on(nodes, "hop"), on(clients, "core"), on(nil, "hop", "core")},
			routers: []routerPlan{
				{name: "hop", kind: FRR, asn: o.BGP.NodeASN, gateway: []int{0}, toward: map[int]string{-1: "core"}},
				{name: "core", kind: FRR, asn: o.BGP.NodeASN, gateway: []int{1, 2}, serves: []int{0}, reflects: true, toward: map[int]string{0: "hop"}},
			},
			links: [][2]string{{"hop", "core"}},
		}
	default:
		return blueprint{segments: o.Segments}
	}
}

// addRouters gives the routers of a blueprint their addresses, neighbours and
// routes. The nodes of the layout are complete.
func (l *Layout) addRouters(o Options, b blueprint) error {
	for i, p := range b.routers {
		own := o.BGP.Routers[p.name]
		r := Router{
			Host: o.router(b.segments, p, i), Kind: or(own.Kind, p.kind), ASN: or(own.ASN, p.asn), Reflects: p.reflects,
			ID: netip.AddrFrom4([4]byte{10, 255, 0, byte(firstRouterNumber + i)}),
		}
		for _, s := range p.serves {
			for _, prefix := range l.Segments[s].Prefixes {
				if o.Topology != V6Only || prefix.Addr().Is6() {
					r.Ranges = append(r.Ranges, prefix)
				}
			}
		}
		l.Routers = append(l.Routers, r)
	}
	for name := range o.BGP.Routers {
		if _, err := l.Router(name); err != nil {
			return fmt.Errorf("lab BGP routers: %w", err)
		}
	}
	for i, p := range b.routers {
		r := &l.Routers[i]
		for _, link := range b.links {
			if slices.Contains(link[:], p.name) {
				r.Neighbors = append(r.Neighbors, l.neighborsOf(*r, link)...)
			}
		}
		r.Routes = l.staticRoutes(*r, p.toward)
	}
	return nil
}

// neighborsOf is the router at the other end of a link, once for each family.
func (l *Layout) neighborsOf(r Router, link [2]string) []Neighbor {
	other := link[0]
	if other == r.Name {
		other = link[1]
	}
	var out []Neighbor
	far, _ := l.Router(other) // the blueprint names only its own
	for _, a := range far.facing(r.Host) {
		out = append(out, Neighbor{Name: far.Name, ASN: far.ASN, Addr: a})
	}
	return out
}

// facing returns a host's addresses on the first segment that it shares with
// another, IPv4 first.
func (h Host) facing(other Host) []netip.Addr {
	for _, mine := range h.Interfaces {
		for _, theirs := range other.Interfaces {
			if mine.Segment == theirs.Segment {
				return mine.Addrs()
			}
		}
	}
	return nil
}

// staticRoutes are a router's ways to what it has no interface on: pods, which
// are behind their nodes, and the segments of other routers.
func (l *Layout) staticRoutes(r Router, toward map[int]string) []Route {
	var routes []Route
	add := func(dsts []netip.Prefix, via []netip.Addr) {
		for _, dst := range dsts {
			for _, a := range via {
				if a.Is4() == dst.Addr().Is4() && r.speaks(a) {
					routes = append(routes, Route{Dst: dst, Via: a})
				}
			}
		}
	}
	for s, seg := range l.Segments {
		if r.on(s) {
			continue
		}
		next, ok := toward[s]
		if !ok {
			next, ok = toward[-1]
		}
		if ok {
			via, _ := l.Router(next) // the blueprint names only its own
			add(seg.Prefixes, via.facing(r.Host))
		}
	}
	for _, n := range l.Nodes {
		via := n.Interfaces[0].Addrs()
		if s := n.Interfaces[0].Segment; !r.on(s) {
			next, ok := toward[s]
			if !ok {
				next = toward[-1]
			}
			far, _ := l.Router(next) // the blueprint names only its own
			via = far.facing(r.Host)
		}
		add(n.PodCIDRs, via)
	}
	return routes
}

// on reports whether a host has an interface on a segment.
func (h Host) on(segment int) bool {
	return slices.ContainsFunc(h.Interfaces, func(i Interface) bool { return i.Segment == segment })
}

// speaks reports whether a host has an address of a family.
func (h Host) speaks(a netip.Addr) bool {
	return slices.ContainsFunc(h.Interfaces, func(i Interface) bool { return i.Addr(a.Is6()).IsValid() })
}

// router plans a router's machine.
func (o Options) router(segments []SegmentOptions, p routerPlan, index int) Host {
	h := Host{Name: p.name, Namespace: namespace(o.Name, p.name)}
	for s, seg := range segments {
		if !slices.Contains(seg.Hosts, p.name) {
			continue
		}
		number := firstRouterNumber + index
		if slices.Contains(p.gateway, s) {
			number = gatewayNumber
		}
		i := o.iface(p.name, s, number)
		if o.Topology == V6Only {
			i.Prefixes = slices.DeleteFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() })
		}
		h.Interfaces = append(h.Interfaces, i)
	}
	return h
}

// Router finds a router by name.
func (l Layout) Router(name string) (Router, error) {
	names := []string{}
	for _, r := range l.Routers {
		if r.Name == name {
			return r, nil
		}
		names = append(names, r.Name)
	}
	return Router{}, fmt.Errorf("no router %q in lab %s, want one of %v", name, l.Name, names)
}

// Peers are the routers that a node peers with in this topology, once for each
// address: what a BGPPeer object names.
func (l Layout) Peers(node string) ([]Neighbor, error) {
	n, err := l.Node(node)
	if err != nil {
		return nil, err
	}
	var out []Neighbor
	for _, r := range l.Routers {
		for _, a := range l.near(r, n) {
			takes := slices.ContainsFunc(r.Ranges, func(p netip.Prefix) bool {
				mine := n.Interfaces[0].Addr(a.Is6())
				return mine.IsValid() && p.Contains(mine)
			})
			if takes {
				out = append(out, Neighbor{Name: r.Name, ASN: r.ASN, Addr: a})
			}
		}
	}
	return out, nil
}

// near returns a router's addresses on the side of a host.
func (l Layout) near(r Router, h Host) []netip.Addr {
	if own := r.facing(h); own != nil {
		return own
	}
	for _, other := range l.Routers {
		if between := other.facing(h); between != nil && other.Name != r.Name {
			return r.facing(other.Host)
		}
	}
	return nil
}

// Hosts are the machines with interfaces on segments: nodes, clients, routers.
func (l Layout) Hosts() []Host {
	hosts := slices.Concat(l.Nodes, l.Clients)
	for _, r := range l.Routers {
		hosts = append(hosts, r.Host)
	}
	return hosts
}

// BridgeAddrs are the gateway addresses of a segment that no router has, so that
// its bridge has them.
func (l Layout) BridgeAddrs(segment int) []netip.Prefix {
	seg := l.Segments[segment]
	var out []netip.Prefix
	for i, gw := range seg.Gateway {
		taken := slices.ContainsFunc(l.Routers, func(r Router) bool {
			return slices.ContainsFunc(r.Interfaces, func(i Interface) bool { return slices.Contains(i.Addrs(), gw) })
		})
		if !taken {
			out = append(out, netip.PrefixFrom(gw, seg.Prefixes[i].Bits()))
		}
	}
	return out
}
