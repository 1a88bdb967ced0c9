package l2

import (
	"maps"
	"net/netip"
	"slices"
)

// groupOf is what tells the solicited-node group of an address from others:
// the address's last 24 bits.
func groupOf(addr netip.Addr) uint32 { return lowWord(addr) & 0xffffff }

// solicitedNode is the group's address (RFC 4291 section 2.7.1).
func solicitedNode(group uint32) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff,
		13: byte(group >> 16), 14: byte(group >> 8), 15: byte(group)})
}

// A membership is one group on one interface.
type membership struct {
	index int
	group uint32
}

// A joiner changes the memberships of the kernel. Both calls may be repeated;
// leaving what is not joined, or an interface that is gone, is no error.
type joiner interface {
	Join(membership) error
	Leave(membership) error
}

// groups derives the solicited-node groups from the announced addresses and
// brings the kernel there. Members are sets, never counts.
type groups struct {
	members map[uint32]map[netip.Addr]struct{}
	joined  map[uint32][]int // interface indexes, sorted
	failed  map[membership]error
	dirty   map[uint32]struct{}
}

func newGroups() *groups {
	return &groups{
		members: make(map[uint32]map[netip.Addr]struct{}),
		joined:  make(map[uint32][]int),
		failed:  make(map[membership]error),
		dirty:   make(map[uint32]struct{}),
	}
}

// note says that an address is announced, or is not any more, or from other
// interfaces than before.
func (g *groups) note(addr netip.Addr, announced bool) {
	group := groupOf(addr)
	g.dirty[group] = struct{}{}
	if !announced {
		delete(g.members[group], addr)
		if len(g.members[group]) == 0 {
			delete(g.members, group)
		}
		return
	}
	if g.members[group] == nil {
		g.members[group] = make(map[netip.Addr]struct{})
	}
	g.members[group][addr] = struct{}{}
}

// reconcile brings up to most dirty groups to where at says that their
// addresses are announced, and tells whether memberships or failures changed.
func (g *groups) reconcile(at func(netip.Addr) []*port, k joiner, most int) (changed bool) {
	for group := range g.dirty {
		if most == 0 {
			return changed
		}
		most--
		delete(g.dirty, group)
		if g.reconcileOne(group, at, k) {
			changed = true
		}
	}
	return changed
}

func (g *groups) reconcileOne(group uint32, at func(netip.Addr) []*port, k joiner) (changed bool) {
	var want []int
	for addr := range g.members[group] {
		for _, p := range at(addr) {
			if i, found := slices.BinarySearch(want, p.index); !found {
				want = slices.Insert(want, i, p.index)
			}
		}
	}
	for m := range maps.Keys(g.failed) {
		if m.group == group && !slices.Contains(want, m.index) {
			delete(g.failed, m)
			changed = true
		}
	}
	joined := make([]int, 0, len(want))
	for _, index := range g.joined[group] {
		if slices.Contains(want, index) {
			joined = append(joined, index)
			continue
		}
		changed = true
		// Leaving fails when the interface took the membership with it.
		_ = k.Leave(membership{index, group})
	}
	for _, index := range want {
		m := membership{index, group}
		if slices.Contains(g.joined[group], index) {
			continue
		}
		changed = true
		if err := k.Join(m); err != nil {
			g.failed[m] = err
			continue
		}
		delete(g.failed, m)
		joined = append(joined, index)
	}
	slices.Sort(joined)
	if len(joined) == 0 {
		delete(g.joined, group)
	} else {
		g.joined[group] = joined
	}
	return changed
}

// retry marks the groups that could not be joined.
func (g *groups) retry() {
	for m := range g.failed {
		g.dirty[m.group] = struct{}{}
	}
}

// verify compares with the memberships that the kernel shows. What got lost
// on the way, as when IPv6 is switched off and on, will be joined again.
func (g *groups) verify(real map[membership]bool, k joiner) {
	for group, indexes := range g.joined {
		kept := slices.DeleteFunc(slices.Clone(indexes), func(index int) bool {
			m := membership{index, group}
			if real[m] {
				return false
			}
			_ = k.Leave(m) // the socket may still remember it
			g.dirty[group] = struct{}{}
			return true
		})
		if len(kept) == 0 {
			delete(g.joined, group)
		} else {
			g.joined[group] = kept
		}
	}
}
