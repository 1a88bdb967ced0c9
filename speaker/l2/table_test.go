package l2

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var tb table
		model := make(map[netip.Addr][]string)
		for range rapid.IntRange(1, 20).Draw(rt, "steps") {
			announce := drawWanted(rt)
			var withdraw []netip.Addr
			for _, addr := range testAddrs {
				if rapid.Bool().Draw(rt, "withdraw") {
					withdraw = append(withdraw, addr)
					delete(model, addr)
				}
			}
			tb.update(announce, withdraw)
			for addr, want := range announce {
				model[addr] = want.Interfaces
			}
			if again := tb.update(announce, nil); len(again) != 0 {
				rt.Fatalf("repeated, it changed %v", again)
			}
			got := make(map[netip.Addr][]string)
			for e := range tb.all {
				got[e.addr] = e.interfaces
			}
			if diff := cmp.Diff(model, got); diff != "" {
				rt.Fatalf("table (-want +got):\n%s", diff)
			}
			if n := tb.size.Load(); int(n) != len(model) {
				rt.Fatalf("size %d, want %d", n, len(model))
			}
			for _, addr := range testAddrs {
				if e := tb.get(addr); (e != nil) != mapHas(model, addr) {
					rt.Fatalf("get %s: %v", addr, e)
				}
			}
		}
	})
}

func mapHas(m map[netip.Addr][]string, addr netip.Addr) bool {
	_, ok := m[addr]
	return ok
}

func TestCountersLastAsLongAsTheAddressIsAnnounced(t *testing.T) {
	var tb table
	tb.update(wanted(vip4), nil)
	tb.get(vip4).tally.requests.Add(3)
	tb.update(desired.L2{vip4: {Interfaces: []string{"eth0"}}}, nil)
	if n := tb.get(vip4).tally.requests.Load(); n != 3 {
		t.Errorf("with other interfaces: %d requests, want 3", n)
	}
	tb.update(nil, []netip.Addr{vip4})
	tb.update(wanted(vip4), nil)
	if n := tb.get(vip4).tally.requests.Load(); n != 0 {
		t.Errorf("announced anew: %d requests, want 0", n)
	}
}

func TestShardsAreEven(t *testing.T) {
	for _, base := range []netip.Addr{netip.MustParseAddr("10.20.0.0"), netip.MustParseAddr("2001:db8::")} {
		var counts [shardCount]int
		most := 0
		addr := base
		for range 10_240 {
			counts[shardOf(addr)]++
			most = max(most, counts[shardOf(addr)])
			addr = addr.Next()
		}
		if most > 15 {
			t.Errorf("%s: the fullest shard holds %d of 10240, want two or three", base, most)
		}
	}
}

// tenThousand is a room with 10,000 addresses of a family.
func tenThousand(b testing.TB, base netip.Addr) (*Announcer, []netip.Addr) {
	a := newTestAnnouncer(b)
	a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC), linkOf(3, "eth1", thirdMAC)})
	var addrs []netip.Addr
	for addr := base; len(addrs) < 10_000; addr = addr.Next() {
		addrs = append(addrs, addr)
	}
	a.Set(wanted(addrs...))
	return a, addrs
}

// BenchmarkLookup10k is the whole decision on one request: the frame is read,
// the address looked up among 10,000, and the reply built.
func BenchmarkLookup10k(b *testing.B) {
	for name, base := range map[string]netip.Addr{"ARP": netip.MustParseAddr("10.20.0.0"), "NDP": netip.MustParseAddr("2001:db8::")} {
		b.Run(name, func(b *testing.B) {
			a, addrs := tenThousand(b, base)
			rng := rand.New(rand.NewPCG(1, 2))
			frames := make([][]byte, 1024)
			for i := range frames {
				frames[i] = asking(b, addrs[rng.IntN(len(addrs))])
			}
			p, buf := protocolOf(base), make([]byte, 0, 128)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, _, v := a.decide(p, 2, frames[i%len(frames)], buf); v != answered {
					b.Fatal("not answered")
				}
				i++
			}
		})
	}
}

// The packet path allocates nothing, whatever the machine.
func TestDecisionAllocatesNothing(t *testing.T) {
	for _, base := range []netip.Addr{netip.MustParseAddr("10.20.0.0"), netip.MustParseAddr("2001:db8::")} {
		a, addrs := tenThousand(t, base)
		frame, p, buf := asking(t, addrs[7]), protocolOf(base), make([]byte, 0, 128)
		if n := testing.AllocsPerRun(1000, func() { a.decide(p, 2, frame, buf) }); n != 0 {
			t.Errorf("%s: %v allocations for a decision, want 0", p, n)
		}
	}
}

// BenchmarkApply is one change in tables of different sizes: its cost must not
// follow the size.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{100, 10_000, 50_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			a := newTestAnnouncer(b)
			want := make(desired.L2)
			addr := netip.MustParseAddr("10.20.0.0")
			for range size {
				want[addr] = desired.L2Address{}
				addr = addr.Next()
			}
			a.Set(want)
			on, off := desired.L2Change{Announce: wanted(addr)}, desired.L2Change{Withdraw: []netip.Addr{addr}}
			for b.Loop() {
				a.Apply(on)
				a.Apply(off)
			}
		})
	}
}

// BenchmarkFilter10k is one renewal of the kernel's filter.
func BenchmarkFilter10k(b *testing.B) {
	_, addrs := tenThousand(b, netip.MustParseAddr("10.20.0.0"))
	for b.Loop() {
		newFilter(false, addrs, maxInstructions).program()
	}
}
