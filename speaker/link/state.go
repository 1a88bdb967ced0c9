package link

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/jsimonetti/rtnetlink/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/speaker/observed"
)

// A state is what the events so far say of the interfaces. It is pure: bytes
// come in, Links come out.
type state struct {
	links     map[int]observed.Link // without what addresses add
	addresses map[int][]address
}

// An address is one address of an interface.
type address struct {
	addr netip.Addr
	// prefix is the on-link prefix; that of the peer on point-to-point links.
	prefix netip.Prefix
	usable bool
}

func newState() *state {
	return &state{links: make(map[int]observed.Link), addresses: make(map[int][]address)}
}

// apply takes in one message and tells whether it said something new. An error
// means that the message could not be read and changed nothing.
func (s *state) apply(m netlink.Message) (bool, error) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return s.applyLink(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return s.applyAddress(m)
	}
	return false, nil
}

func (s *state) applyLink(m netlink.Message) (bool, error) {
	var msg rtnetlink.LinkMessage
	if err := msg.UnmarshalBinary(m.Data); err != nil {
		return false, fmt.Errorf("decode a link message: %w", err)
	}
	// A bridge tells of its ports with link messages of its own family; one
	// of those ends a port's life in the bridge, not the interface's.
	if msg.Family != unix.AF_UNSPEC {
		return false, nil
	}
	index := int(msg.Index)
	old, known := s.links[index]
	if m.Header.Type == unix.RTM_DELLINK {
		delete(s.links, index)
		delete(s.addresses, index)
		return known, nil
	}
	next, err := decodeLink(&msg)
	if err != nil {
		return false, err
	}
	s.links[index] = next
	return !known || !equal(old, next), nil
}

// decodeLink reads what a link message says.
func decodeLink(m *rtnetlink.LinkMessage) (observed.Link, error) {
	if m.Attributes == nil || m.Attributes.Name == "" || m.Index == 0 {
		return observed.Link{}, fmt.Errorf("decode a link message: interface %d has no name", m.Index)
	}
	l := observed.Link{
		Index: int(m.Index),
		Name:  m.Attributes.Name,
		MAC:   slices.Clone(m.Attributes.Address),
		Up:    m.Flags&unix.IFF_UP != 0,
		// IFF_RUNNING is the operational state of RFC 2863; it also holds for
		// devices that do not know theirs.
		Carrier:   m.Flags&unix.IFF_RUNNING != 0,
		Loopback:  m.Flags&unix.IFF_LOOPBACK != 0,
		Broadcast: m.Flags&unix.IFF_BROADCAST != 0,
		Multicast: m.Flags&unix.IFF_MULTICAST != 0,
		NoARP:     m.Flags&unix.IFF_NOARP != 0,
	}
	if m.Attributes.Info != nil {
		l.Kind = m.Attributes.Info.Kind
		l.MasterKind = m.Attributes.Info.SlaveKind
	}
	if m.Attributes.Master != nil {
		l.Master = int(*m.Attributes.Master)
	}
	if l.Master == 0 {
		l.MasterKind = ""
	}
	return l, nil
}

func (s *state) applyAddress(m netlink.Message) (bool, error) {
	var msg rtnetlink.AddressMessage
	if err := msg.UnmarshalBinary(m.Data); err != nil {
		return false, fmt.Errorf("decode an address message: %w", err)
	}
	next, err := decodeAddress(&msg)
	if err != nil {
		return false, err
	}
	index := int(msg.Index)
	list := s.addresses[index]
	at := slices.IndexFunc(list, func(a address) bool { return a.addr == next.addr && a.prefix == next.prefix })
	switch {
	case m.Header.Type == unix.RTM_DELADDR && at >= 0:
		list = slices.Delete(slices.Clone(list), at, at+1)
	case m.Header.Type == unix.RTM_DELADDR || at >= 0 && list[at] == next:
		return false, nil
	case at >= 0:
		list = slices.Clone(list)
		list[at] = next
	default:
		list = append(slices.Clone(list), next)
	}
	if len(list) == 0 {
		delete(s.addresses, index)
	} else {
		s.addresses[index] = list
	}
	return true, nil
}

// decodeAddress reads what an address message says.
func decodeAddress(m *rtnetlink.AddressMessage) (address, error) {
	if m.Attributes == nil {
		return address{}, fmt.Errorf("decode an address message: interface %d: no address", m.Index)
	}
	// On a point-to-point link, the address is the peer's and the local one
	// stands apart; elsewhere both are the same, or local is left out.
	peer, ok := netip.AddrFromSlice(m.Attributes.Address)
	local, okLocal := netip.AddrFromSlice(m.Attributes.Local)
	if !okLocal {
		local = peer
	}
	if !ok {
		peer, ok = local, okLocal
	}
	if !ok || peer.BitLen() != local.BitLen() {
		return address{}, fmt.Errorf("decode an address message: interface %d: no address", m.Index)
	}
	prefix, err := peer.Prefix(int(m.PrefixLength))
	if err != nil {
		return address{}, fmt.Errorf("decode an address message: interface %d: %w", m.Index, err)
	}
	const unusable = unix.IFA_F_TENTATIVE | unix.IFA_F_DADFAILED
	flags := m.Attributes.Flags | uint32(m.Flags)
	return address{addr: local, prefix: prefix, usable: flags&unusable == 0 || flags&unix.IFA_F_OPTIMISTIC != 0}, nil
}

// snapshot is the state as the others see it.
func (s *state) snapshot() observed.Links {
	all := make(observed.Links, 0, len(s.links))
	for index, l := range s.links {
		if master, ok := s.links[l.Master]; ok && master.Kind != "" {
			l.MasterKind = master.Kind
		}
		for _, a := range s.addresses[index] {
			switch {
			case !a.addr.IsLinkLocalUnicast():
				if !slices.Contains(l.Prefixes, a.prefix) {
					l.Prefixes = append(l.Prefixes, a.prefix)
				}
			case a.addr.Is6() && a.usable && (!l.LinkLocal.IsValid() || a.addr.Less(l.LinkLocal)):
				l.LinkLocal = a.addr
			}
		}
		slices.SortFunc(l.Prefixes, netip.Prefix.Compare)
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b observed.Link) int { return a.Index - b.Index })
	return all
}

// equal compares links.
func equal(a, b observed.Link) bool {
	return a.Index == b.Index && a.Name == b.Name && a.Kind == b.Kind && slices.Equal(a.MAC, b.MAC) &&
		a.Up == b.Up && a.Carrier == b.Carrier && a.Loopback == b.Loopback && a.Broadcast == b.Broadcast &&
		a.Multicast == b.Multicast && a.NoARP == b.NoARP && a.Master == b.Master && a.MasterKind == b.MasterKind &&
		slices.Equal(a.Prefixes, b.Prefixes) && a.LinkLocal == b.LinkLocal
}
