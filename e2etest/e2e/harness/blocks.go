//go:build lab

package harness

import (
	"fmt"
	"net/netip"
	"sync"
)

// Block is eight addresses of each family, for one test alone. They lie in the
// prefixes of a segment, so the machines on it ask for them by ARP and NDP.
type Block struct {
	first4, first6 netip.Addr
}

const (
	blockBits   = 3
	blockSize   = 1 << blockBits
	firstNumber = 32 // below are the machines
	endNumber   = 200
)

// blocks hands out the blocks of every segment in turn, so that an address rests
// for as long as possible before another test gets it.
type blocks struct {
	mu    sync.Mutex
	next  int
	taken map[int]bool
}

func newBlocks() *blocks { return &blocks{taken: map[int]bool{}} }

func (b *blocks) take() (int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	const n = (endNumber - firstNumber) / blockSize
	for range n {
		i := b.next % n
		b.next++
		if !b.taken[i] {
			b.taken[i] = true
			return i, true
		}
	}
	return 0, false
}

func (b *blocks) give(i int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.taken, i)
}

// Block takes a block on a segment until the test ends.
func (h *Test) Block(segment int) Block {
	h.Helper()
	number := h.blockNumber()
	prefixes := h.State.Layout.Segments[segment].Prefixes
	var block Block
	for _, p := range prefixes {
		if p.Addr().Is4() {
			raw := p.Addr().As4()
			raw[3] = number
			block.first4 = netip.AddrFrom4(raw)
			continue
		}
		raw := p.Addr().As16()
		raw[13], raw[14] = 1, number // apart from the machines' ::N
		block.first6 = netip.AddrFrom16(raw)
	}
	return block
}

// The prefixes of addresses that are on no segment (RFC 5737, RFC 3849).
var (
	routed4 = netip.MustParseAddr("198.51.100.0")
	routed6 = netip.MustParseAddr("2001:db8:0:1::")
)

// RoutedBlock takes a block that is on no segment, until the test ends: addresses
// that only a router's routes lead to.
func (h *Test) RoutedBlock() Block {
	h.Helper()
	number := h.blockNumber()
	raw4, raw6 := routed4.As4(), routed6.As16()
	raw4[3], raw6[15] = number, number
	return Block{first4: netip.AddrFrom4(raw4), first6: netip.AddrFrom16(raw6)}
}

// blockNumber is the last byte of the first address of a block that is the test's
// until it ends.
func (h *Test) blockNumber() byte {
	h.Helper()
	i, ok := h.blocks.take()
	if !ok {
		h.Fatal("all blocks of addresses are taken: too many tests run side by side")
	}
	h.Cleanup(func() { h.blocks.give(i) })
	return byte(firstNumber + i*blockSize)
}

// V4 is the IPv4 address number i of the block, V6 the IPv6 address.
func (b Block) V4(i int) netip.Addr { return step(b.first4, i) }

// V6 is the IPv6 address number i of the block.
func (b Block) V6(i int) netip.Addr { return step(b.first6, i) }

func step(a netip.Addr, n int) netip.Addr {
	for range n {
		a = a.Next()
	}
	return a
}

// Range4 is the block's IPv4 part as a range, Range6 the IPv6 part; Range both.
func (b Block) Range4() string { return fmt.Sprintf("%s-%s", b.V4(0), b.V4(blockSize-1)) }

// Range6 is the block's IPv6 part as a range.
func (b Block) Range6() string { return fmt.Sprintf("%s-%s", b.V6(0), b.V6(blockSize-1)) }

// Range is both parts, as a YAML list has them.
func (b Block) Range() string { return b.Range4() + ", " + b.Range6() }

// Prefix4 is the block's IPv4 part as a prefix.
func (b Block) Prefix4() string { return netip.PrefixFrom(b.first4, 32-blockBits).String() }

// Prefix6 is the block's IPv6 part as a prefix.
func (b Block) Prefix6() string { return netip.PrefixFrom(b.first6, 128-blockBits).String() }

// Has reports whether an address is of the block.
func (b Block) Has(a netip.Addr) bool {
	return netip.PrefixFrom(b.first4, 32-blockBits).Contains(a) || netip.PrefixFrom(b.first6, 128-blockBits).Contains(a)
}
