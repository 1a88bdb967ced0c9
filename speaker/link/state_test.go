package link

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/observed"
)

var mac = net.HardwareAddr{2, 0, 0, 0, 0, 1}

const running = unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_BROADCAST | unix.IFF_MULTICAST

func message(t testing.TB, kind netlink.HeaderType, m rtnetlink.Message) netlink.Message {
	t.Helper()
	data, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return netlink.Message{Header: netlink.Header{Type: kind}, Data: data}
}

// newLink is the message of an interface; master 0 means none.
func newLink(t testing.TB, index uint32, name, kind string, flags, master uint32) netlink.Message {
	t.Helper()
	m := &rtnetlink.LinkMessage{Index: index, Flags: flags, Attributes: &rtnetlink.LinkAttributes{Name: name, Address: mac}}
	if kind != "" {
		m.Attributes.Info = &rtnetlink.LinkInfo{Kind: kind}
	}
	if master != 0 {
		m.Attributes.Master = &master
	}
	return message(t, unix.RTM_NEWLINK, m)
}

// ofBridge makes a link message one of the bridge family, which the library
// cannot.
func ofBridge(m netlink.Message) netlink.Message {
	m.Data[0] = unix.AF_BRIDGE
	return m
}

func addr(t testing.TB, kind netlink.HeaderType, index uint32, prefix string, flags uint32) netlink.Message {
	t.Helper()
	p := netip.MustParsePrefix(prefix)
	m := &rtnetlink.AddressMessage{Family: unix.AF_INET, PrefixLength: uint8(p.Bits()), Index: index,
		Attributes: &rtnetlink.AddressAttributes{Address: p.Addr().AsSlice(), Local: p.Addr().AsSlice(), Flags: flags}}
	if p.Addr().Is6() {
		m.Family = unix.AF_INET6
		m.Attributes.Local = nil
	}
	return message(t, kind, m)
}

func TestStateOfInterfaces(t *testing.T) {
	up := func(index int, name string) observed.Link {
		return observed.Link{Index: index, Name: name, MAC: mac, Up: true, Carrier: true, Broadcast: true, Multicast: true}
	}
	with := func(l observed.Link, change func(*observed.Link)) observed.Link { change(&l); return l }
	prefixes := func(list ...string) (all []netip.Prefix) {
		for _, p := range list {
			all = append(all, netip.MustParsePrefix(p))
		}
		return all
	}
	type events = []netlink.Message

	for name, test := range map[string]struct {
		events events
		want   observed.Links
	}{
		"a physical interface with its addresses": {
			events{
				newLink(t, 2, "eth0", "", running, 0),
				addr(t, unix.RTM_NEWADDR, 2, "2001:db8::5/64", 0),
				addr(t, unix.RTM_NEWADDR, 2, "10.0.0.5/24", 0),
				addr(t, unix.RTM_NEWADDR, 2, "10.0.0.6/24", 0),
				addr(t, unix.RTM_NEWADDR, 2, "fe80::5/64", 0),
			},
			observed.Links{with(up(2, "eth0"), func(l *observed.Link) {
				l.Prefixes = prefixes("10.0.0.0/24", "2001:db8::/64")
				l.LinkLocal = netip.MustParseAddr("fe80::5")
			})},
		},
		"administratively up without carrier": {
			events{newLink(t, 2, "eth0", "", unix.IFF_UP|unix.IFF_BROADCAST|unix.IFF_MULTICAST, 0)},
			observed.Links{with(up(2, "eth0"), func(l *observed.Link) { l.Carrier = false })},
		},
		"a tentative link-local address is not usable": {
			events{newLink(t, 2, "eth0", "", running, 0), addr(t, unix.RTM_NEWADDR, 2, "fe80::5/64", unix.IFA_F_TENTATIVE)},
			observed.Links{up(2, "eth0")},
		},
		"nor one that another station has": {
			events{newLink(t, 2, "eth0", "", running, 0), addr(t, unix.RTM_NEWADDR, 2, "fe80::5/64", unix.IFA_F_DADFAILED|unix.IFA_F_PERMANENT)},
			observed.Links{up(2, "eth0")},
		},
		"a tentative address becomes usable": {
			events{
				newLink(t, 2, "eth0", "", running, 0),
				addr(t, unix.RTM_NEWADDR, 2, "fe80::5/64", unix.IFA_F_TENTATIVE),
				addr(t, unix.RTM_NEWADDR, 2, "fe80::5/64", unix.IFA_F_PERMANENT),
			},
			observed.Links{with(up(2, "eth0"), func(l *observed.Link) { l.LinkLocal = netip.MustParseAddr("fe80::5") })},
		},
		"an address goes, the other of its prefix stays": {
			events{
				newLink(t, 2, "eth0", "", running, 0),
				addr(t, unix.RTM_NEWADDR, 2, "10.0.0.5/24", 0),
				addr(t, unix.RTM_NEWADDR, 2, "10.0.0.6/24", 0),
				addr(t, unix.RTM_DELADDR, 2, "10.0.0.5/24", 0),
			},
			observed.Links{with(up(2, "eth0"), func(l *observed.Link) { l.Prefixes = prefixes("10.0.0.0/24") })},
		},
		"a point-to-point link has its peer on it": {
			events{
				newLink(t, 2, "ppp0", "ppp", running|unix.IFF_NOARP, 0),
				message(t, unix.RTM_NEWADDR, &rtnetlink.AddressMessage{Family: unix.AF_INET, PrefixLength: 32, Index: 2,
					Attributes: &rtnetlink.AddressAttributes{Local: net.IP{10, 9, 0, 1}, Address: net.IP{10, 9, 0, 2}}}),
			},
			observed.Links{with(up(2, "ppp0"), func(l *observed.Link) {
				l.Kind, l.NoARP, l.Prefixes = "ppp", true, prefixes("10.9.0.2/32")
			})},
		},
		"a bond's slaves and a VRF's member know their masters": {
			events{
				newLink(t, 5, "bond0", "bond", running, 0),
				newLink(t, 2, "eth0", "", running, 5),
				newLink(t, 6, "red", "vrf", running, 0),
				newLink(t, 7, "bond0.100", "vlan", running, 6),
			},
			observed.Links{
				with(up(2, "eth0"), func(l *observed.Link) { l.Master, l.MasterKind = 5, "bond" }),
				with(up(5, "bond0"), func(l *observed.Link) { l.Kind = "bond" }),
				with(up(6, "red"), func(l *observed.Link) { l.Kind = "vrf" }),
				with(up(7, "bond0.100"), func(l *observed.Link) { l.Kind, l.Master, l.MasterKind = "vlan", 6, "vrf" }),
			},
		},
		"a bridge's word on its port is not the port's end": {
			events{
				newLink(t, 2, "eth0", "", running, 0),
				ofBridge(message(t, unix.RTM_DELLINK, &rtnetlink.LinkMessage{Index: 2,
					Attributes: &rtnetlink.LinkAttributes{Name: "eth0", Address: mac}})),
			},
			observed.Links{up(2, "eth0")},
		},
		"an interface goes with its addresses and comes back without": {
			events{
				newLink(t, 2, "eth0", "", running, 0),
				addr(t, unix.RTM_NEWADDR, 2, "10.0.0.5/24", 0),
				message(t, unix.RTM_DELLINK, &rtnetlink.LinkMessage{Index: 2}),
				newLink(t, 2, "eth0", "", running, 0),
			},
			observed.Links{up(2, "eth0")},
		},
		"addresses may come before their interface": {
			events{addr(t, unix.RTM_NEWADDR, 2, "10.0.0.5/24", 0), newLink(t, 2, "eth0", "", running, 0)},
			observed.Links{with(up(2, "eth0"), func(l *observed.Link) { l.Prefixes = prefixes("10.0.0.0/24") })},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState()
			for _, m := range test.events {
				if _, err := s.apply(m); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(test.want, s.snapshot(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRepeatedEventIsNoChange(t *testing.T) {
	s := newState()
	for _, m := range []netlink.Message{newLink(t, 2, "eth0", "veth", running, 0), addr(t, unix.RTM_NEWADDR, 2, "10.0.0.5/24", 0)} {
		first, err := s.apply(m)
		if err != nil || !first {
			t.Fatalf("first time: changed %v, err %v; want a change", first, err)
		}
		again, err := s.apply(m)
		if err != nil || again {
			t.Errorf("second time: changed %v, err %v; want none", again, err)
		}
	}
}

func TestUnreadableMessageChangesNothing(t *testing.T) {
	good := newLink(t, 2, "eth0", "", running, 0)
	for name, m := range map[string]netlink.Message{
		"a truncated link":          {Header: good.Header, Data: good.Data[:10]},
		"a link without a name":     message(t, unix.RTM_NEWLINK, &rtnetlink.LinkMessage{Index: 3}),
		"a truncated address":       {Header: netlink.Header{Type: unix.RTM_NEWADDR}, Data: []byte{2, 24}},
		"an address without one":    message(t, unix.RTM_NEWADDR, &rtnetlink.AddressMessage{Family: unix.AF_INET, Index: 2}),
		"a prefix longer than ours": message(t, unix.RTM_NEWADDR, &rtnetlink.AddressMessage{Family: unix.AF_INET, PrefixLength: 64, Index: 2, Attributes: &rtnetlink.AddressAttributes{Address: net.IP{10, 0, 0, 1}}}),
	} {
		t.Run(name, func(t *testing.T) {
			s := newState()
			if _, err := s.apply(good); err != nil {
				t.Fatal(err)
			}
			before := s.snapshot()
			changed, err := s.apply(m)
			if err == nil || changed {
				t.Errorf("changed %v, err %v; want an error and no change", changed, err)
			}
			if diff := cmp.Diff(before, s.snapshot(), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})); diff != "" {
				t.Errorf("links (-before +after):\n%s", diff)
			}
		})
	}
}

func FuzzApply(f *testing.F) {
	link, address := newLink(f, 2, "eth0", "vlan", running, 5), addr(f, unix.RTM_NEWADDR, 2, "fe80::5/64", 0)
	f.Add(uint16(unix.RTM_NEWLINK), link.Data)
	f.Add(uint16(unix.RTM_DELLINK), link.Data)
	f.Add(uint16(unix.RTM_NEWADDR), address.Data)
	f.Add(uint16(unix.RTM_DELADDR), address.Data)
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		s := newState()
		changed, err := s.apply(netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: data})
		if err != nil && changed {
			t.Errorf("a message in error (%v) changed the state", err)
		}
		for _, l := range s.snapshot() {
			if l.Name == "" || l.Index == 0 {
				t.Errorf("a link without a name or index: %+v", l)
			}
			if l.LinkLocal.IsValid() && !l.LinkLocal.IsLinkLocalUnicast() {
				t.Errorf("%s is not link-local", l.LinkLocal)
			}
		}
	})
}
