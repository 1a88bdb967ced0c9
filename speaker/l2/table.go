package l2

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/heraldlb/herald/speaker/desired"
)

// A shard of a table of 10,000 addresses holds two or three, so that replacing
// it for one change is cheap.
const (
	shardBits  = 12
	shardCount = 1 << shardBits
)

// A table maps addresses to entries. Readers take no lock and allocate
// nothing; writers are serialised by their caller and replace whole shards.
type table struct {
	shards [shardCount]atomic.Pointer[map[netip.Addr]*entry]
	size   atomic.Int64
}

// An entry is one announced address. It is immutable but for its tally.
type entry struct {
	addr netip.Addr
	// interfaces are the names to announce from, sorted; nil means all.
	interfaces []string
	// tally also stands for the tenure: it is the same value from the moment
	// the address is announced until it is withdrawn.
	tally *tally
}

// A tally counts the frames of one address.
type tally struct {
	requests, responses, gratuitous, foreign atomic.Uint64
	// foreignLogged is when a foreign announcement was last logged, in Unix
	// seconds.
	foreignLogged atomic.Int64
	contest       contest
}

// allows tells whether the address may be announced from the named interface.
func (e *entry) allows(name string) bool {
	return e.interfaces == nil || slices.Contains(e.interfaces, name)
}

// get returns the entry of addr, or nil.
func (t *table) get(addr netip.Addr) *entry {
	shard := t.shards[shardOf(addr)].Load()
	if shard == nil {
		return nil
	}
	return (*shard)[addr]
}

// all calls yield for every entry, in no order.
func (t *table) all(yield func(*entry) bool) {
	for i := range t.shards {
		shard := t.shards[i].Load()
		if shard == nil {
			continue
		}
		for _, e := range *shard {
			if !yield(e) {
				return
			}
		}
	}
}

// update puts the entries of announce, removes those of withdraw, and returns
// the addresses that really changed. An address in both is announced.
func (t *table) update(announce desired.L2, withdraw []netip.Addr) []netip.Addr {
	edits := make(map[int][]*entry)
	var changed []netip.Addr
	for _, addr := range withdraw {
		if _, stays := announce[addr]; stays || t.get(addr) == nil {
			continue
		}
		changed = append(changed, addr)
		edits[shardOf(addr)] = append(edits[shardOf(addr)], &entry{addr: addr})
	}
	for addr, want := range announce {
		next := &entry{addr: addr, interfaces: want.Interfaces}
		if old := t.get(addr); old != nil {
			if equalInterfaces(old.interfaces, want.Interfaces) {
				continue
			}
			next.tally = old.tally
		} else {
			next.tally = new(tally)
		}
		changed = append(changed, addr)
		edits[shardOf(addr)] = append(edits[shardOf(addr)], next)
	}
	for shard, entries := range edits {
		t.edit(shard, entries)
	}
	return changed
}

// edit replaces one shard. An entry without a tally is a removal.
func (t *table) edit(shard int, entries []*entry) {
	next := make(map[netip.Addr]*entry)
	if old := t.shards[shard].Load(); old != nil {
		maps.Copy(next, *old)
	}
	before := len(next)
	for _, e := range entries {
		if e.tally == nil {
			delete(next, e.addr)
		} else {
			next[e.addr] = e
		}
	}
	t.size.Add(int64(len(next) - before))
	if len(next) == 0 {
		t.shards[shard].Store(nil)
		return
	}
	t.shards[shard].Store(&next)
}

// strangers returns the addresses of the table that want does not hold.
func (t *table) strangers(want desired.L2) []netip.Addr {
	var gone []netip.Addr
	for e := range t.all {
		if _, ok := want[e.addr]; !ok {
			gone = append(gone, e.addr)
		}
	}
	return gone
}

// equalInterfaces tells nil (all interfaces) from an empty list (none).
func equalInterfaces(a, b []string) bool {
	return (a == nil) == (b == nil) && slices.Equal(a, b)
}

// shardOf spreads addresses of one pool, which differ in few low bits, evenly:
// the multiplier is the golden ratio's fraction (Fibonacci hashing).
func shardOf(addr netip.Addr) int {
	const golden = 0x9e3779b97f4a7c15
	b := addr.As16()
	h := binary.BigEndian.Uint64(b[8:]) + binary.BigEndian.Uint64(b[:8])*golden
	return int(h * golden >> (64 - shardBits))
}
