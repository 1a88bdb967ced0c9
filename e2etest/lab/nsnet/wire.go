package nsnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Bridge makes a bridge that behaves like a plain switch: it forwards at once and
// floods multicast, because nobody on the segment is an IGMP or MLD querier.
func (n *Namespace) Bridge(name string) error {
	return n.Do(func() error {
		off := false
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		br := &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &off}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("add bridge %s in %s: %w", name, n.name, err)
		}
		return up(name)
	})
}

// End is one end of a wire.
type End struct {
	Namespace *Namespace
	Name      string
	MAC       net.HardwareAddr // nil: the kernel chooses
	Bridge    string           // empty: not a bridge port
}

// Wire joins two namespaces by a veth pair and brings both ends up.
func Wire(a, b End) error {
	err := a.Namespace.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = a.Name
		attrs.HardwareAddr = a.MAC
		veth := &netlink.Veth{
			LinkAttrs:        attrs,
			PeerName:         b.Name,
			PeerHardwareAddr: b.MAC,
			PeerNamespace:    netlink.NsFd(int(b.Namespace.file.Fd())),
		}
		return netlink.LinkAdd(veth)
	})
	if err != nil {
		return fmt.Errorf("wire %s/%s to %s/%s: %w", a.Namespace.name, a.Name, b.Namespace.name, b.Name, err)
	}
	for _, end := range []End{a, b} {
		if end.Bridge != "" {
			if err := end.Namespace.Attach(end.Name, end.Bridge); err != nil {
				return err
			}
		}
		if err := end.Namespace.SetLink(end.Name, true); err != nil {
			return err
		}
	}
	return nil
}

// Attach makes a link a port of a bridge, taking it from another one if need be.
// The link stays up meanwhile, so the far end sees no loss of carrier.
func (n *Namespace) Attach(link, bridge string) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("find link %s in %s: %w", link, n.name, err)
		}
		br, err := netlink.LinkByName(bridge)
		if err != nil {
			return fmt.Errorf("find bridge %s in %s: %w", bridge, n.name, err)
		}
		if err := netlink.LinkSetMaster(l, br); err != nil {
			return fmt.Errorf("make %s a port of %s in %s: %w", link, bridge, n.name, err)
		}
		return nil
	})
}

// SetLink brings a link up or down.
func (n *Namespace) SetLink(name string, wantUp bool) error {
	return n.Do(func() error {
		if wantUp {
			return up(name)
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("find link %s in %s: %w", name, n.name, err)
		}
		if err := netlink.LinkSetDown(l); err != nil {
			return fmt.Errorf("take down %s in %s: %w", name, n.name, err)
		}
		return nil
	})
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return nil
}

// Address adds addresses to a link. IPv6 addresses skip duplicate address
// detection: the lab gives out its own addresses once, and waiting a second for
// each would only make it slow.
func (n *Namespace) Address(link string, prefixes ...netip.Prefix) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("find link %s in %s: %w", link, n.name, err)
		}
		for _, p := range prefixes {
			addr := &netlink.Addr{IPNet: ipNet(p)}
			if p.Addr().Is6() {
				addr.Flags = ifaFlagNoDAD
			}
			if err := netlink.AddrReplace(l, addr); err != nil {
				return fmt.Errorf("add %s to %s in %s: %w", p, link, n.name, err)
			}
		}
		return nil
	})
}

// ifaFlagNoDAD is IFA_F_NODAD of linux/if_addr.h.
const ifaFlagNoDAD = 0x02

// Route sends dst (the zero prefix of a family is its default route) to via.
func (n *Namespace) Route(dst netip.Prefix, via netip.Addr) error {
	return n.Do(func() error {
		route := &netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("route %s via %s in %s: %w", dst, via, n.name, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// Unplug removes a link and, for a veth, its other end. A link that does not
// exist is not an error.
func (n *Namespace) Unplug(link string) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(link)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("find link %s in %s: %w", link, n.name, err)
		}
		if err := netlink.LinkDel(l); err != nil {
			return fmt.Errorf("remove %s in %s: %w", link, n.name, err)
		}
		return nil
	})
}
