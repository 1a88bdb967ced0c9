package lab

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// Layout is the plan of a lab: every machine, wire and address of it. It is a
// pure function of the options, so whoever knows the options knows the addresses.
type Layout struct {
	Name     string
	Families Families
	// ControlPlane runs etcd, the API server, the controllers and the scheduler.
	ControlPlane Host
	// Switch holds the bridges, one for each segment.
	Switch   string
	Segments []Segment
	Nodes    []Host
	Clients  []Host
	// Routers stand between the segments in all topologies but Flat.
	Routers []Router
	// PodCIDRs and ServiceCIDRs are the whole cluster's, IPv4 first.
	PodCIDRs     []netip.Prefix
	ServiceCIDRs []netip.Prefix
}

// Segment is one flat L2 network.
type Segment struct {
	// Bridge is its bridge in the switch's namespace; tcpdump there sees every
	// frame that is flooded.
	Bridge   string
	Prefixes []netip.Prefix // IPv4 first
	// Gateway is the machines' default route in each family: a router's address, or
	// else the bridge's own, with nothing behind it but the segments.
	Gateway []netip.Addr
}

// Host is a machine of the lab: a network namespace with interfaces.
type Host struct {
	Name      string
	Namespace string
	// Interfaces on segments; the first of a node is the one with its node address.
	Interfaces []Interface
	// Mgmt is the wire between the control plane and a node; clients have none.
	Mgmt *Interface
	// PodCIDRs are a node's own, IPv4 first.
	PodCIDRs []netip.Prefix
}

// Interface is a host's end of a wire.
type Interface struct {
	Name     string
	Segment  int    // index in Layout.Segments; -1 for the management network
	Port     string // the name of the far end, on the bridge's side
	MAC      string
	Prefixes []netip.Prefix // IPv4 first
}

// Addr returns the interface's address of a family, or the zero address.
func (i Interface) Addr(v6 bool) netip.Addr {
	for _, p := range i.Prefixes {
		if p.Addr().Is6() == v6 {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// Addrs returns the interface's addresses, IPv4 first.
func (i Interface) Addrs() []netip.Addr {
	var addrs []netip.Addr
	for _, p := range i.Prefixes {
		addrs = append(addrs, p.Addr())
	}
	return addrs
}

// Host numbers, the last byte of every address a machine has.
const (
	gatewayNumber     = 1
	firstRouterNumber = 2 // of those that are not the gateway
	firstNodeNumber   = 11
	firstClientNumber = 201
	mgmtBridge        = "mgmt0"
	apiPort           = 6443
)

// plan lays out a lab. The options must be complete.
func plan(o Options) (Layout, error) {
	l := Layout{
		Name:     o.Name,
		Families: o.Families,
		Switch:   namespace(o.Name, "switch"),
		PodCIDRs: o.Families.pick(
			netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/48")),
		ServiceCIDRs: o.Families.pick(
			netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")),
	}
	l.ControlPlane = Host{
		Name:      "cp",
		Namespace: namespace(o.Name, "cp"),
		Mgmt:      &Interface{Name: mgmtBridge, Segment: -1, Prefixes: o.mgmt(gatewayNumber)},
	}
	b := o.blueprint()
	for s := range b.segments {
		own := o.segment(s, gatewayNumber)
		seg := Segment{Bridge: fmt.Sprintf("br%d", s)}
		for _, p := range own {
			seg.Prefixes = append(seg.Prefixes, p.Masked())
			seg.Gateway = append(seg.Gateway, p.Addr())
		}
		l.Segments = append(l.Segments, seg)
	}
	for i := range o.Nodes {
		number := firstNodeNumber + i
		h := o.host(b.segments, nodeName(i), number)
		h.Mgmt = &Interface{Name: mgmtBridge, Segment: -1, Port: h.Name + "-m",
			MAC: mac(0xff, number), Prefixes: o.mgmt(number)}
		h.PodCIDRs = o.Families.pick(
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(i + 1), 0}), 24),
			netip.PrefixFrom(v6(0xfd00, 0x0244, 0, uint16(i+1), 0), 64))
		l.Nodes = append(l.Nodes, h)
	}
	for i := range o.Clients {
		l.Clients = append(l.Clients, o.host(b.segments, clientName(i), firstClientNumber+i))
	}
	if err := l.check(o, b); err != nil {
		return l, err
	}
	return l, l.addRouters(o, b)
}

func nodeName(i int) string   { return fmt.Sprintf("node%d", i+1) }
func clientName(i int) string { return fmt.Sprintf("client%d", i+1) }

// check finds segments that name hosts which do not exist, and nodes that the
// first segment leaves out.
func (l Layout) check(o Options, b blueprint) error {
	if len(b.routers) > 0 {
		return nil // a preset is sound by itself
	}
	for s, seg := range o.Segments {
		for _, name := range seg.Hosts {
			if _, err := l.Host(name); err != nil {
				return fmt.Errorf("lab segment %d: %w", s, err)
			}
		}
	}
	for _, h := range append(slices.Clone(l.Nodes), l.Clients...) {
		if len(h.Interfaces) == 0 || (h.Mgmt != nil && h.Interfaces[0].Segment != 0) {
			return fmt.Errorf("lab segment 0: must have every node, and every client must be on some segment; %s is not", h.Name)
		}
	}
	return nil
}

// Host finds a node, client or router by name; "client" is short for "client1", and
// "cp" is the control plane.
func (l Layout) Host(name string) (Host, error) {
	if name == "client" {
		name = "client1"
	}
	names := []string{}
	for _, h := range append(l.Hosts(), l.ControlPlane) {
		if h.Name == name {
			return h, nil
		}
		names = append(names, h.Name)
	}
	if name == "switch" {
		return Host{Name: name, Namespace: l.Switch}, nil
	}
	return Host{}, fmt.Errorf("no host %q in lab %s, want one of %v", name, l.Name, append(names, "switch"))
}

// Node finds a Kubernetes node by name.
func (l Layout) Node(name string) (Host, error) {
	h, err := l.Host(name)
	if err != nil {
		return h, err
	}
	if len(h.PodCIDRs) == 0 {
		return Host{}, fmt.Errorf("host %q of lab %s is not a node", name, l.Name)
	}
	return h, nil
}

// APIServer is the address at which nodes reach the API server.
func (l Layout) APIServer() netip.AddrPort {
	return netip.AddrPortFrom(l.ControlPlane.Mgmt.Prefixes[0].Addr(), apiPort)
}

// Namespaces returns the names of all the namespaces of the plan.
func (l Layout) Namespaces() []string {
	names := []string{l.ControlPlane.Namespace, l.Switch}
	for _, h := range l.Hosts() {
		names = append(names, h.Namespace)
	}
	return names
}

// namespacePrefix is what the names of all namespaces of a lab start with. Lab
// names have no dash, so no lab's prefix is the prefix of another's.
func namespacePrefix(name string) string { return "herald-" + name + "-" }

func namespace(lab, host string) string { return namespacePrefix(lab) + host }

// host plans a machine with an interface on each segment it is on.
func (o Options) host(segments []SegmentOptions, name string, number int) Host {
	h := Host{Name: name, Namespace: namespace(o.Name, name)}
	for s, seg := range segments {
		if len(seg.Hosts) > 0 && !slices.Contains(seg.Hosts, name) {
			continue
		}
		h.Interfaces = append(h.Interfaces, o.iface(name, s, number))
	}
	return h
}

// iface plans a host's interface on a segment; it has the segment's number.
func (o Options) iface(host string, segment, number int) Interface {
	return Interface{
		Name:     fmt.Sprintf("eth%d", segment),
		Segment:  segment,
		Port:     fmt.Sprintf("%s-%d", host, segment),
		MAC:      mac(byte(segment), number),
		Prefixes: o.segment(segment, number),
	}
}

// segment gives a host's addresses on a segment: 192.168.(200+s).N and
// fd00:(200+s)::N, with the number written the same in both.
func (o Options) segment(s, number int) []netip.Prefix {
	return o.Families.pick(
		netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(200 + s), byte(number)}), 24),
		netip.PrefixFrom(v6(0xfd00, uint16(0x200+s), 0, 0, decimal(number)), 64))
}

// mgmt gives a host's addresses on the management network.
func (o Options) mgmt(number int) []netip.Prefix {
	return o.Families.pick(
		netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, 0, byte(number)}), 24),
		netip.PrefixFrom(v6(0xfd00, 0x31, 0, 0, decimal(number)), 64))
}

// pick keeps what belongs to the families, IPv4 first.
func (f Families) pick(v4, v6 netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	if f.V4() {
		out = append(out, v4)
	}
	if f.V6() {
		out = append(out, v6)
	}
	return out
}

// v6 builds an address from its first four groups and its last.
func v6(a, b, c, d, last uint16) netip.Addr {
	var raw [16]byte
	for i, g := range []uint16{a, b, c, d} {
		raw[2*i], raw[2*i+1] = byte(g>>8), byte(g)
	}
	raw[14], raw[15] = byte(last>>8), byte(last)
	return netip.AddrFrom16(raw)
}

// decimal returns the number whose hexadecimal digits look like n's decimal ones,
// so that node 11 is 192.168.200.11 and fd00:200::11.
func decimal(n int) uint16 {
	var out, shift uint16
	for ; n > 0; n /= 10 {
		out |= uint16(n%10) << shift
		shift += 4
	}
	return out
}

// mac gives an interface an address that a reader can tell: the last byte is the
// host's number, the one before the segment.
func mac(segment byte, number int) string {
	return net.HardwareAddr{0x02, 0x68, 0x6c, 0x62, segment, byte(number)}.String()
}
