package supervisor

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// buildNetwork makes the switch, the control plane's network, the clients and the
// nodes, all wired.
func (s *Supervisor) buildNetwork() (err error) {
	l := s.state.Layout
	if s.cpNet, err = newHost(l.ControlPlane.Namespace, nil); err != nil {
		return err
	}
	mgmt := l.ControlPlane.Mgmt
	if err := s.cpNet.Bridge(mgmt.Name); err != nil {
		return err
	}
	if err := s.cpNet.Address(mgmt.Name, mgmt.Prefixes...); err != nil {
		return err
	}
	if s.switchNet, err = newHost(l.Switch, forwarding); err != nil {
		return err
	}
	for i, seg := range l.Segments {
		for _, bridge := range []string{seg.Bridge, otherSide(seg.Bridge)} {
			if err := s.switchNet.Bridge(bridge); err != nil {
				return err
			}
		}
		if err := s.switchNet.Address(seg.Bridge, l.BridgeAddrs(i)...); err != nil {
			return err
		}
	}
	for _, h := range l.Clients {
		ns, err := newHost(h.Namespace, nil)
		if err != nil {
			return err
		}
		s.clients = append(s.clients, ns)
		if err := s.plug(h, ns); err != nil {
			return err
		}
	}
	for _, h := range l.Nodes {
		n := &node{machine: machine{host: h, on: true}}
		n.build = func() error { return s.buildNode(n) }
		n.boot = func(ctx context.Context) error { return s.bootNode(ctx, n) }
		s.nodes[h.Name] = n
		if err := s.buildNode(n); err != nil {
			return err
		}
	}
	for _, plan := range l.Routers {
		r := &router{machine: machine{host: plan.Host, on: true}, plan: plan, dir: lab.RouterDir(s.state.Options.StateDir, plan.Name)}
		r.build = func() error { return s.buildRouter(r) }
		r.boot = func(ctx context.Context) error { return s.bootRouter(ctx, r) }
		s.routers[plan.Name] = r
		if err := s.buildRouter(r); err != nil {
			return err
		}
	}
	return nil
}

// otherSide is the bridge that a partition moves ports to.
func otherSide(bridge string) string { return bridge + "p" }

// Settings of hosts. There is no duplicate address detection: the plan gives out
// each address once, and waiting for it would only make the lab slow.
var (
	base = map[string]string{
		"net.ipv4.conf.all.rp_filter":                "0",
		"net.ipv4.conf.default.rp_filter":            "0",
		"net.ipv6.conf.all.accept_dad":               "0",
		"net.ipv6.conf.default.accept_dad":           "0",
		"net.ipv6.conf.default.dad_transmits":        "0",
		"net.ipv6.conf.default.accept_ra":            "0",
		"net.ipv6.conf.default.router_solicitations": "0",
	}
	forwarding = map[string]string{
		"net.ipv4.ip_forward":                  "1",
		"net.ipv6.conf.all.forwarding":         "1",
		"net.ipv6.conf.default.forwarding":     "1",
		"net.ipv4.conf.all.send_redirects":     "0",
		"net.ipv4.conf.default.send_redirects": "0",
	}
)

// newHost makes the namespace of a machine.
func newHost(name string, settings map[string]string) (*nsnet.Namespace, error) {
	ns, err := nsnet.Create(name)
	if err != nil {
		return nil, err
	}
	if err := ns.Sysctl(base); err != nil {
		return ns, err
	}
	if err := ns.Sysctl(settings); err != nil {
		return ns, err
	}
	return ns, ns.SetLink("lo", true)
}

// plug wires a host to its segments and gives it its addresses and default route.
func (s *Supervisor) plug(h lab.Host, ns *nsnet.Namespace) error {
	for _, i := range h.Interfaces {
		seg := s.state.Layout.Segments[i.Segment]
		if err := wire(ns, i, s.switchNet, seg.Bridge); err != nil {
			return err
		}
	}
	first := s.state.Layout.Segments[h.Interfaces[0].Segment]
	for _, gw := range first.Gateway {
		if err := ns.Route(defaultRoute(gw), gw); err != nil {
			return err
		}
	}
	return nil
}

// wire joins an interface of a host to a bridge.
func wire(ns *nsnet.Namespace, i lab.Interface, far *nsnet.Namespace, bridge string) error {
	mac, err := net.ParseMAC(i.MAC)
	if err != nil {
		return fmt.Errorf("interface %s: %w", i.Name, err)
	}
	host := nsnet.End{Namespace: ns, Name: i.Name, MAC: mac}
	port := nsnet.End{Namespace: far, Name: i.Port, Bridge: bridge}
	if err := nsnet.Wire(host, port); err != nil {
		return err
	}
	return ns.Address(i.Name, i.Prefixes...)
}

func defaultRoute(gw netip.Addr) netip.Prefix {
	if gw.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// hostRoute is the prefix of one address.
func hostRoute(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
