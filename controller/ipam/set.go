package ipam

import "math/bits"

// A set is a sparse set of positions below a limit that is known from the
// start: a tree whose nodes have 64 children. A node exists only where the set
// holds something, so a set over a whole IPv6 prefix costs what is in it.
// Every operation takes one step per level: 3 for a /16, 11 for a /64 of IPv6.
type set struct {
	root   *node
	levels int
}

// A node covers 64 children; at level 0 they are positions.
type node struct {
	// count is how many positions the node holds.
	count int
	// some marks the children that hold a position, full those that hold all.
	some, full uint64
	// kids is nil at level 0.
	kids *[64]*node
}

// newSet returns an empty set for the positions 0 to last.
func newSet(last u128) set {
	return set{levels: max(1, (last.len()+5)/6)}
}

func digit(pos u128, level int) uint {
	return uint(pos.shr(uint(6*level)).lo & 63)
}

func (s *set) len() int {
	if s == nil || s.root == nil {
		return 0
	}
	return s.root.count
}

// add puts pos in the set and reports whether it was not there.
func (s *set) add(pos u128) bool {
	if s.root == nil {
		s.root = newNode(s.levels - 1)
	}
	return s.root.add(pos, s.levels-1)
}

func newNode(level int) *node {
	n := &node{}
	if level > 0 {
		n.kids = new([64]*node)
	}
	return n
}

func (n *node) add(pos u128, level int) bool {
	d := digit(pos, level)
	bit := uint64(1) << d
	if level == 0 {
		if n.some&bit != 0 {
			return false
		}
		n.some |= bit
		n.full |= bit
		n.count++
		return true
	}
	kid := n.kids[d]
	if kid == nil {
		kid = newNode(level - 1)
		n.kids[d] = kid
	}
	if !kid.add(pos, level-1) {
		return false
	}
	n.count++
	n.some |= bit
	if kid.full == ^uint64(0) {
		n.full |= bit
	}
	return true
}

// remove takes pos out of the set and reports whether it was there.
func (s *set) remove(pos u128) bool {
	if s.root == nil || !s.root.remove(pos, s.levels-1) {
		return false
	}
	if s.root.count == 0 {
		s.root = nil
	}
	return true
}

func (n *node) remove(pos u128, level int) bool {
	d := digit(pos, level)
	bit := uint64(1) << d
	if n.some&bit == 0 {
		return false
	}
	if level > 0 {
		kid := n.kids[d]
		if !kid.remove(pos, level-1) {
			return false
		}
		if kid.count > 0 {
			n.count--
			n.full &^= bit
			return true
		}
		n.kids[d] = nil
	}
	n.count--
	n.some &^= bit
	n.full &^= bit
	return true
}

// firstAbsent returns the lowest position that is not in the set; false when
// the tree is full. The caller compares the answer with its own limit.
func (s *set) firstAbsent() (u128, bool) {
	if s.root == nil {
		return u128{}, true
	}
	if s.root.full == ^uint64(0) {
		return u128{}, false
	}
	var pos u128
	for n, level := s.root, s.levels-1; n != nil; level-- {
		d := bits.TrailingZeros64(^n.full)
		pos = pos.or(u128{lo: uint64(d)}.shl(uint(6 * level)))
		if level == 0 {
			break
		}
		n = n.kids[d]
	}
	return pos, true
}

// next returns the lowest position at or after from that is in s and not in
// without, which must be nil or a subset of s. Because it is a subset, a
// subtree of s holds such a position exactly where the two counts differ.
func (s *set) next(from u128, without *set) (u128, bool) {
	if s.root == nil || from.shr(uint(6*s.levels)) != (u128{}) {
		return u128{}, false
	}
	var w *node
	if without != nil {
		w = without.root
	}
	return s.root.next(from, true, w, s.levels-1)
}

// next searches below n; bounded says whether from still limits the search.
func (n *node) next(from u128, bounded bool, without *node, level int) (u128, bool) {
	candidates := n.some
	low := uint(0)
	if bounded {
		low = digit(from, level)
		candidates &= ^uint64(0) << low
	}
	if level == 0 {
		if without != nil {
			candidates &^= without.some
		}
		if candidates == 0 {
			return u128{}, false
		}
		return u128{lo: uint64(bits.TrailingZeros64(candidates))}, true
	}
	for ; candidates != 0; candidates &= candidates - 1 {
		d := uint(bits.TrailingZeros64(candidates))
		kid := n.kids[d]
		var w *node
		if without != nil {
			w = without.kids[d]
		}
		if w != nil && w.count == kid.count {
			continue
		}
		if pos, ok := kid.next(from, bounded && d == low, w, level-1); ok {
			return pos.or(u128{lo: uint64(d)}.shl(uint(6 * level))), true
		}
	}
	return u128{}, false
}
