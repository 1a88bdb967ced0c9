package l2

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"
)

// machine runs the part of a filter that looks at the frame alone; what looks
// at the kernel's packet type is for the namespace tests.
func machine(t testing.TB, f *filter) func(frame []byte) bool {
	t.Helper()
	vm, err := bpf.NewVM(f.match())
	if err != nil {
		t.Fatalf("the filter is no program: %v", err)
	}
	return func(frame []byte) bool {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatalf("the filter failed: %v", err)
		}
		return n > 0
	}
}

// asking is a frame that asks for addr.
func asking(t testing.TB, addr netip.Addr) []byte {
	if addr.Is4() {
		return arpFrameOf(t, broadcast, theirMAC, arp.OperationRequest, theirMAC, "10.0.0.7", hwAddr{}, addr.String())
	}
	return ndpFrameOf(t, solicitedMAC(addr), theirMAC, "fe80::bb", solicitedNode(groupOf(addr)).String(), solicitation(addr, &theirMAC))
}

func v4(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, v)))
}

func v6(prefix, low uint32) netip.Addr {
	b := netip.MustParseAddr("2001:db8::").As16()
	binary.BigEndian.PutUint32(b[8:], prefix)
	binary.BigEndian.PutUint32(b[12:], low)
	return netip.AddrFrom16(b)
}

func TestFilterLooksAtTheFrame(t *testing.T) {
	request := asking(t, vip4)
	solicit := asking(t, vip6)
	udp := slices.Clone(solicit)
	udp[ip6Next] = 17
	echo := slices.Clone(solicit)
	echo[icmpType] = 128
	for name, test := range map[string]struct {
		addrs []netip.Addr
		frame []byte
		want  bool
	}{
		"ARP for ours":               {[]netip.Addr{vip4}, request, true},
		"ARP for the one above":      {[]netip.Addr{vip4}, asking(t, vip4.Next()), false},
		"ARP for the one below":      {[]netip.Addr{vip4}, asking(t, vip4.Prev()), false},
		"ARP with no address":        {[]netip.Addr{}, request, false},
		"ARP at the lowest address":  {[]netip.Addr{v4(0), vip4}, asking(t, v4(0)), true},
		"ARP at the highest address": {[]netip.Addr{vip4, v4(^uint32(0))}, asking(t, v4(^uint32(0))), true},
		"ARP truncated is counted":   {[]netip.Addr{vip4}, request[:30], true},
		"NS for ours":                {[]netip.Addr{vip6}, solicit, true},
		"NS for the one above":       {[]netip.Addr{vip6}, asking(t, vip6.Next()), false},
		"NS for another prefix":      {[]netip.Addr{vip6}, asking(t, v6(7, lowWord(vip6))), false},
		"NS truncated is counted":    {[]netip.Addr{vip6}, solicit[:ndpOptions-1], true},
		"an announcement of ours": {[]netip.Addr{vip6}, ndpFrameOf(t, allNodesMAC, theirMAC, "fe80::bb", "ff02::1",
			&ndp.NeighborAdvertisement{TargetAddress: vip6}), true},
		"UDP over IPv6":              {[]netip.Addr{vip6}, udp, false},
		"an echo request":            {[]netip.Addr{vip6}, echo, false},
		"IPv6 cut before its header": {[]netip.Addr{vip6}, solicit[:20], false},
	} {
		t.Run(name, func(t *testing.T) {
			six := len(test.addrs) > 0 && test.addrs[0].Is6()
			if got := machine(t, newFilter(six, test.addrs, maxInstructions))(test.frame); got != test.want {
				t.Errorf("passes: got %v, want %v", got, test.want)
			}
		})
	}
}

// pools draws addresses as pools and elections scatter them: runs and holes.
func pools(t *rapid.T, six bool) []netip.Addr {
	var addrs []netip.Addr
	for range rapid.IntRange(1, 5).Draw(t, "pools") {
		prefix := rapid.Uint32Range(0, 40).Draw(t, "prefix")
		base := rapid.OneOf(rapid.Just(uint32(0)), rapid.Just(^uint32(0)-300), rapid.Uint32()).Draw(t, "base")
		size := rapid.IntRange(1, 300).Draw(t, "size")
		keep := rapid.IntRange(1, 4).Draw(t, "every")
		for i := 0; i < size; i += rapid.IntRange(1, keep).Draw(t, "step") {
			if six {
				addrs = append(addrs, v6(prefix, base+uint32(i)))
			} else {
				addrs = append(addrs, v4(base+uint32(i)))
			}
		}
	}
	return addrs
}

func TestFilterProperties(t *testing.T) {
	for _, six := range []bool{false, true} {
		name := map[bool]string{false: "IPv4", true: "IPv6"}[six]
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				addrs := pools(rt, six)
				limit := rapid.SampledFrom([]int{256, 512, 1024, maxInstructions}).Draw(rt, "limit")
				f := newFilter(six, addrs, limit)
				if n := len(f.program()); n > limit {
					rt.Fatalf("the program has %d instructions, limit %d", n, limit)
				}
				passes := machine(t, f)
				ours := make(map[netip.Addr]bool)
				for _, addr := range addrs {
					ours[addr] = true
				}
				exact := len(spansOf(lowWords(addrs), len(addrs))) <= maxSpans(limit) && (!six || len(f.prefixes) == 1)
				check := func(addr netip.Addr) {
					got := passes(asking(t, addr))
					if ours[addr] && !got {
						rt.Fatalf("%s is ours and does not pass", addr)
					}
					if got != f.covers(addr) {
						rt.Fatalf("%s: passes %v, covers %v", addr, got, f.covers(addr))
					}
					if exact && got != ours[addr] {
						rt.Fatalf("%s: passes %v, ours %v, and the filter has room", addr, got, ours[addr])
					}
				}
				for range 200 {
					addr := addrs[rapid.IntRange(0, len(addrs)-1).Draw(rt, "near")]
					for _, near := range []netip.Addr{addr, addr.Next(), addr.Prev()} {
						if near.IsValid() {
							check(near)
						}
					}
				}
			})
		})
	}
}

func lowWords(addrs []netip.Addr) []uint32 {
	words := make([]uint32, len(addrs))
	for i, addr := range addrs {
		words[i] = lowWord(addr)
	}
	return words
}

func TestSpansCloseTheSmallestGaps(t *testing.T) {
	values := []uint32{1, 2, 3, 10, 12, 20, 40, 41, 100}
	for most, want := range map[int][]span{
		9: {{1, 3}, {10, 10}, {12, 12}, {20, 20}, {40, 41}, {100, 100}},
		5: {{1, 3}, {10, 12}, {20, 20}, {40, 41}, {100, 100}},
		3: {{1, 20}, {40, 41}, {100, 100}},
		1: {{1, 100}},
	} {
		if got := spansOf(slices.Clone(values), most); !slices.Equal(got, want) {
			t.Errorf("at most %d: got %v, want %v", most, got, want)
		}
	}
}

// A node's share of a pool is a random third of it. Even the largest table of
// the project's figures lets only other members of its own pool through.
func TestFilterOfTenThousandScatteredAddresses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	base := lowWord(netip.MustParseAddr("10.20.0.0"))
	var addrs []netip.Addr
	for i := range uint32(30_000) {
		if rng.IntN(3) == 0 {
			addrs = append(addrs, v4(base+i))
		}
	}
	f := newFilter(false, addrs, maxInstructions)
	if n := len(f.program()); n > maxInstructions {
		t.Fatalf("the program has %d instructions", n)
	}
	passes := machine(t, f)
	for _, addr := range addrs {
		if !passes(asking(t, addr)) {
			t.Fatalf("%s is ours and does not pass", addr)
		}
	}
	for range 10_000 {
		if addr := v4(rng.Uint32()); passes(asking(t, addr)) && !netip.MustParsePrefix("10.20.0.0/16").Contains(addr) {
			t.Fatalf("%s is far from ours and passes", addr)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 9}, uint32(0x0a000003))
	f.Add([]byte{255, 255, 255, 255, 0, 0, 0, 0}, uint32(1))
	f.Fuzz(func(t *testing.T, raw []byte, other uint32) {
		var addrs []netip.Addr
		for ; len(raw) >= 4; raw = raw[4:] {
			addrs = append(addrs, netip.AddrFrom4([4]byte(raw)))
		}
		if len(addrs) == 0 || len(addrs) > 1000 {
			return
		}
		passes := machine(t, newFilter(false, addrs, maxInstructions))
		for _, addr := range addrs {
			if !passes(asking(t, addr)) {
				t.Errorf("%s is ours and does not pass", addr)
			}
		}
		if addr := v4(other); passes(asking(t, addr)) != slices.Contains(addrs, addr) {
			t.Errorf("%s: passes %v", addr, !slices.Contains(addrs, addr))
		}
	})
}
