package podnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// LinkPrefix begins the name of every veth that this package makes in a node.
const LinkPrefix = "pod-"

// gateway4 and gateway6 are the node as every pod sees it.
var (
	gateway4 = netip.MustParseAddr("169.254.1.1")
	gateway6 = netip.MustParseAddr("fe80::1")
)

// Node attaches pods to one node's network namespace: that of the calling process.
type Node struct {
	sources []netip.Addr

	mu    sync.Mutex // guards pools
	pools []*pool
}

// NewNode prepares the namespace for routing, and removes links that an earlier
// agent left. Sources are the node's addresses, from which it talks to its pods.
func NewNode(cidrs []netip.Prefix, sources []netip.Addr) (*Node, error) {
	n := &Node{sources: sources}
	for _, c := range cidrs {
		n.pools = append(n.pools, newPool(c))
	}
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := writeSysctl(path, "1"); err != nil {
			return nil, err
		}
	}
	return n, n.sweep()
}

func (n *Node) sweep() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list the node's links: %w", err)
	}
	for _, l := range links {
		if l.Type() != "veth" || !strings.HasPrefix(l.Attrs().Name, LinkPrefix) {
			continue
		}
		if err := netlink.LinkDel(l); err != nil {
			return fmt.Errorf("remove the leftover link %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// Pod is the network of one pod.
type Pod struct {
	// Addrs has at most one address per family, in the order of the node's CIDRs.
	Addrs []netip.Addr
	// NS is the pod's namespace; it lives as long as this file is open, or a
	// process is in it.
	NS *os.File

	node *Node
	link int
}

// Attach makes a pod's network. id names its link and must be unique on the
// node; sysctls (net.* names, with dots) are set in the pod's namespace.
func (n *Node) Attach(id string, sysctls map[string]string) (_ *Pod, err error) {
	p := &Pod{node: n}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	if err := p.takeAddresses(); err != nil {
		return p, err
	}
	if p.NS, err = newNamespace(sysctls); err != nil {
		return p, err
	}
	inside, err := netlink.NewHandleAt(netns.NsHandle(p.NS.Fd()))
	if err != nil {
		return p, fmt.Errorf("open netlink in the pod's namespace: %w", err)
	}
	defer inside.Close()
	hostMAC, podMAC := macs(p.Addrs)
	if err := p.connect(id, inside, hostMAC, podMAC); err != nil {
		return p, err
	}
	for _, a := range p.Addrs {
		if err := p.route(inside, a, hostMAC, podMAC); err != nil {
			return p, fmt.Errorf("route address %s: %w", a, err)
		}
	}
	return p, nil
}

// Close gives the pod's addresses back and removes its link. The caller ends
// the pod's processes first.
func (p *Pod) Close() error {
	var errs []error
	if p.link != 0 {
		err := netlink.LinkDel(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: p.link}})
		if err != nil && !errors.Is(err, syscall.ENODEV) {
			errs = append(errs, fmt.Errorf("remove the pod's link: %w", err))
		}
		p.link = 0
	}
	if p.NS != nil {
		errs = append(errs, p.NS.Close())
		p.NS = nil
	}
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	for _, a := range p.Addrs {
		for _, pool := range p.node.pools {
			pool.give(a)
		}
	}
	p.Addrs = nil
	return errors.Join(errs...)
}

func (p *Pod) takeAddresses() error {
	p.node.mu.Lock()
	defer p.node.mu.Unlock()
	for _, pool := range p.node.pools {
		a, err := pool.take()
		if err != nil {
			return err
		}
		p.Addrs = append(p.Addrs, a)
	}
	return nil
}

// connect makes the veth with one end in the pod, and brings both ends up.
func (p *Pod) connect(id string, inside *netlink.Handle, hostMAC, podMAC net.HardwareAddr) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = LinkPrefix+id, hostMAC
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerHardwareAddr: podMAC,
		PeerNamespace: netlink.NsFd(int(p.NS.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make the pod's link %s: %w", attrs.Name, err)
	}
	host, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return fmt.Errorf("find the pod's link %s: %w", attrs.Name, err)
	}
	p.link = host.Attrs().Index
	if err := netlink.LinkSetUp(host); err != nil {
		return fmt.Errorf("bring %s up: %w", attrs.Name, err)
	}
	for _, name := range []string{"lo", "eth0"} {
		l, err := inside.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find %s in the pod: %w", name, err)
		}
		if err := inside.LinkSetUp(l); err != nil {
			return fmt.Errorf("bring %s up in the pod: %w", name, err)
		}
	}
	return nil
}

// route gives the pod address a, and each side a way to the other.
func (p *Pod) route(inside *netlink.Handle, a netip.Addr, hostMAC, podMAC net.HardwareAddr) error {
	eth0, err := inside.LinkByName("eth0")
	if err != nil {
		return err
	}
	podLink, gateway := eth0.Attrs().Index, gateway4
	if a.Is6() {
		gateway = gateway6
		// The pod's router needs the link-local address that it is reached at.
		addr := &netlink.Addr{IPNet: hostNet(gateway6), Flags: syscall.IFA_F_NODAD, Scope: int(netlink.SCOPE_LINK)}
		addr.Mask = net.CIDRMask(64, 128)
		if err := netlink.AddrAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: p.link}}, addr); err != nil {
			return fmt.Errorf("add %s to the node's end: %w", gateway6, err)
		}
	}
	if err := inside.AddrAdd(eth0, &netlink.Addr{IPNet: hostNet(a), Flags: syscall.IFA_F_NODAD}); err != nil {
		return fmt.Errorf("add the address: %w", err)
	}
	if err := inside.NeighSet(permanent(podLink, gateway, hostMAC)); err != nil {
		return fmt.Errorf("set the pod's neighbour: %w", err)
	}
	if err := inside.RouteReplace(&netlink.Route{LinkIndex: podLink, Dst: defaultNet(a), Gw: gateway.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}); err != nil {
		return fmt.Errorf("set the pod's default route: %w", err)
	}
	if err := netlink.NeighSet(permanent(p.link, a, podMAC)); err != nil {
		return fmt.Errorf("set the node's neighbour: %w", err)
	}
	toPod := &netlink.Route{LinkIndex: p.link, Dst: hostNet(a), Scope: netlink.SCOPE_LINK}
	if a.Is6() {
		toPod.Scope = netlink.SCOPE_UNIVERSE
	}
	for _, s := range p.node.sources {
		if s.Is4() == a.Is4() {
			toPod.Src = s.AsSlice()
			break
		}
	}
	if err := netlink.RouteReplace(toPod); err != nil {
		return fmt.Errorf("set the node's route: %w", err)
	}
	return nil
}

func permanent(link int, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	family := syscall.AF_INET
	if a.Is6() {
		family = syscall.AF_INET6
	}
	return &netlink.Neigh{LinkIndex: link, Family: family, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac}
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func defaultNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: make(net.IP, a.BitLen()/8), Mask: net.CIDRMask(0, a.BitLen())}
}

// macs derives locally administered addresses from the pod's first address.
// They need to be distinct on one point-to-point link only.
func macs(addrs []netip.Addr) (host, pod net.HardwareAddr) {
	tail := []byte{0, 0, 0, 1}
	if len(addrs) > 0 {
		b := addrs[0].AsSlice()
		tail = b[len(b)-4:]
	}
	return append(net.HardwareAddr{0x0a, 0x57}, tail...), append(net.HardwareAddr{0x0a, 0x58}, tail...)
}
