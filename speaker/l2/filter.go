package l2

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/net/bpf"
)

const (
	// maxInstructions is the kernel's limit for a classic BPF program.
	maxInstructions = 4096
	// chunkBounds is how many comparisons share a pair of return
	// instructions: conditional jumps reach 255 instructions far.
	chunkBounds = 120
	// maxPrefixes is how many /96 prefixes the IPv6 filter tells apart. With
	// more, it looks at the last 32 bits of the target only.
	maxPrefixes = 16

	accept = 1 << 16 // more than any frame: keep it whole
)

// A span is a range of 32-bit values, both ends included.
type span struct{ lo, hi uint32 }

// A prefix96 is the first three words of an IPv6 address.
type prefix96 [3]uint32

// A filter says which targets the kernel lets through to us. It holds every
// announced address of a family, and as few others as the size of a program
// allows: where addresses are too scattered, the smallest gaps between them
// are let through as well, and user space ignores what comes of it.
type filter struct {
	six      bool
	prefixes []prefix96 // sorted; empty for IPv4, and for IPv6 = any
	spans    []span     // sorted, disjoint: IPv4 addresses or last words
}

// newFilter makes the filter of addrs, all of one family, whose program has
// at most limit instructions.
func newFilter(six bool, addrs []netip.Addr, limit int) *filter {
	words := make([]uint32, len(addrs))
	seen := make(map[prefix96]struct{})
	for i, addr := range addrs {
		words[i] = lowWord(addr)
		if six && len(seen) <= maxPrefixes {
			seen[prefixOf(addr)] = struct{}{}
		}
	}
	f := &filter{six: six, spans: spansOf(words, maxSpans(limit))}
	if six && len(seen) <= maxPrefixes {
		for p := range seen {
			f.prefixes = append(f.prefixes, p)
		}
		slices.SortFunc(f.prefixes, func(a, b prefix96) int { return slices.Compare(a[:], b[:]) })
	}
	return f
}

// maxSpans is how many spans fit a program: two comparisons each, two returns
// for a chunk of them, two jumps where chunks part, and the head.
func maxSpans(limit int) int {
	const head = 16 + 7*maxPrefixes
	bounds := (limit - head) * chunkBounds / (chunkBounds + 10)
	return max(bounds/2, 1)
}

// spansOf turns values into at most most spans, closing the smallest gaps.
func spansOf(values []uint32, most int) []span {
	slices.Sort(values)
	var spans []span
	for _, v := range values {
		if n := len(spans); n > 0 && (v == spans[n-1].hi || v == spans[n-1].hi+1) {
			spans[n-1].hi = v
			continue
		}
		spans = append(spans, span{v, v})
	}
	excess := len(spans) - most
	if excess <= 0 {
		return spans
	}
	gaps := make([]uint32, len(spans)-1)
	for i := range gaps {
		gaps[i] = spans[i+1].lo - spans[i].hi
	}
	sorted := slices.Sorted(slices.Values(gaps))
	largest := sorted[excess-1] // every gap below it closes, and some of its size
	ties := excess
	for _, g := range sorted {
		if g >= largest {
			break
		}
		ties--
	}
	merged := spans[:1]
	for i, g := range gaps {
		closes := g < largest
		if g == largest && ties > 0 {
			closes = true
			ties--
		}
		if closes {
			merged[len(merged)-1].hi = spans[i+1].hi
		} else {
			merged = append(merged, spans[i+1])
		}
	}
	return merged
}

// covers tells whether the filter lets a target through.
func (f *filter) covers(addr netip.Addr) bool {
	if len(f.prefixes) > 0 {
		p := prefixOf(addr)
		if !slices.Contains(f.prefixes, p) {
			return false
		}
	}
	_, found := slices.BinarySearchFunc(f.spans, lowWord(addr), func(s span, v uint32) int {
		switch {
		case s.hi < v:
			return -1
		case s.lo > v:
			return 1
		}
		return 0
	})
	return found
}

// program is the whole program for a packet socket of the family.
func (f *filter) program() []bpf.Instruction {
	// Frames for other stations (a promiscuous interface, a VLAN that has no
	// interface here) and frames that we sent are none of our business. Packet
	// types above multicast are those two and stranger ones.
	head := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: packetMulticast, SkipFalse: 1},
		bpf.RetConstant{Val: 0},
	}
	return append(head, f.match()...)
}

// match is the part of the program that looks at the frame alone. A frame too
// short to hold a target passes: user space counts it as malformed.
func (f *filter) match() []bpf.Instruction {
	if len(f.spans) == 0 {
		return []bpf.Instruction{bpf.RetConstant{Val: 0}}
	}
	var prog []bpf.Instruction
	if f.six {
		prog = append(prog,
			bpf.LoadAbsolute{Off: ip6Next, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: protocolICMPv6, SkipTrue: 1},
			bpf.RetConstant{Val: 0},
			bpf.LoadAbsolute{Off: icmpType, Size: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: neighborSolicitation, SkipTrue: 2},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: neighborAdvertisement, SkipTrue: 1},
			bpf.RetConstant{Val: 0})
	}
	shortest, word := uint32(arpFrame), uint32(arpTargetAddr)
	if f.six {
		shortest, word = ndpOptions, ndpTarget+12
	}
	prog = append(prog,
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: shortest, SkipTrue: 1},
		bpf.RetConstant{Val: accept})
	prog = append(prog, f.matchPrefixes()...)
	prog = append(prog, bpf.LoadAbsolute{Off: word, Size: 4})
	return appendSearch(prog, boundsOf(f.spans), false)
}

// matchPrefixes falls through when the first 96 bits are one of ours.
func (f *filter) matchPrefixes() []bpf.Instruction {
	const each = 6
	var prog []bpf.Instruction
	for i, p := range f.prefixes {
		for w, value := range p {
			jump := bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: uint8(each - 2*w - 2)}
			if w == len(p)-1 { // found: over the others and the return
				jump.SkipTrue = uint8((len(f.prefixes)-1-i)*each + 1)
			}
			prog = append(prog, bpf.LoadAbsolute{Off: ndpTarget + 4*uint32(w), Size: 4}, jump)
		}
	}
	if len(prog) > 0 {
		prog = append(prog, bpf.RetConstant{Val: 0})
	}
	return prog
}

// boundsOf lists where membership changes: a value is inside when an odd
// number of bounds are at or below it.
func boundsOf(spans []span) []uint32 {
	bounds := make([]uint32, 0, 2*len(spans))
	for _, s := range spans {
		bounds = append(bounds, s.lo)
		if s.hi != ^uint32(0) {
			bounds = append(bounds, s.hi+1)
		}
	}
	return bounds
}

// appendSearch appends a binary search for the accumulator in bounds, which
// ends in a return. Inside tells whether a value below all of them is a match.
func appendSearch(prog []bpf.Instruction, bounds []uint32, inside bool) []bpf.Instruction {
	if len(bounds) <= chunkBounds {
		return appendChunk(prog, bounds, inside)
	}
	mid := len(bounds) / 2
	prog = append(prog, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: bounds[mid], SkipFalse: 1})
	jump := len(prog)
	prog = append(prog, nil)
	prog = appendSearch(prog, bounds[:mid], inside)
	prog[jump] = bpf.Jump{Skip: uint32(len(prog) - jump - 1)}
	return appendSearch(prog, bounds[mid+1:], inside != (mid%2 == 0))
}

// appendChunk appends a search whose jumps are all short: a comparison for
// each bound, the root first, and two returns.
func appendChunk(prog []bpf.Instruction, bounds []uint32, inside bool) []bpf.Instruction {
	nodes := make([]bpf.Instruction, len(bounds))
	var place func(lo, hi, at int) int
	place = func(lo, hi, at int) int {
		if lo == hi {
			if inside != (lo%2 == 1) {
				return len(bounds) + 1 // the accepting return
			}
			return len(bounds)
		}
		mid := (lo + hi) / 2
		below, above := place(lo, mid, at+1), place(mid+1, hi, at+1+mid-lo)
		nodes[at] = bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: bounds[mid],
			SkipTrue: uint8(above - at - 1), SkipFalse: uint8(below - at - 1)}
		return at
	}
	place(0, len(bounds), 0)
	if len(bounds) == 0 && inside {
		return append(prog, bpf.RetConstant{Val: accept})
	}
	prog = append(prog, nodes...)
	return append(prog, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: accept})
}

// lowWord is the last 32 bits of an address.
func lowWord(addr netip.Addr) uint32 {
	b := addr.As16()
	return binary.BigEndian.Uint32(b[12:])
}

// prefixOf is the first 96 bits of an IPv6 address.
func prefixOf(addr netip.Addr) prefix96 {
	b := addr.As16()
	return prefix96{binary.BigEndian.Uint32(b[0:]), binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])}
}
