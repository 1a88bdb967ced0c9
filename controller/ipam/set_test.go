package ipam

import (
	"math"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/service"
)

// genPosition prefers numbers that lie close together, at the edges of nodes
// and at the far end.
func genPosition(t *rapid.T, last u128) u128 {
	p := u128{lo: rapid.Uint64Range(0, 130).Draw(t, "offset")}
	switch rapid.IntRange(0, 3).Draw(t, "where") {
	case 0:
		p = last.sub(p)
	case 1:
		p = u128{lo: 1}.shl(uint(6 * rapid.IntRange(1, 21).Draw(t, "level"))).sub(p)
	}
	if last.less(p) {
		return last
	}
	return p
}

func TestSetAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		last := rapid.SampledFrom([]u128{{}, {lo: 63}, {lo: 64}, {lo: 200}, {lo: 1<<16 - 1}, {lo: math.MaxUint64}, {hi: 1}, {math.MaxUint64, math.MaxUint64}}).Draw(t, "last")
		s, sub := newSet(last), newSet(last)
		model, submodel := map[u128]bool{}, map[u128]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for p, n := genPosition(t, last), rapid.IntRange(1, 70).Draw(t, "run"); n > 0 && !last.less(p); n-- {
					if s.add(p) == model[p] {
						t.Fatalf("add %v: was there: %v", p, model[p])
					}
					model[p] = true
					if n%3 == 0 {
						sub.add(p)
						submodel[p] = true
					}
					if p == last {
						break
					}
					p = p.inc()
				}
			},
			"remove": func(t *rapid.T) {
				p := genPosition(t, last)
				if s.remove(p) != model[p] || sub.remove(p) != submodel[p] {
					t.Fatalf("remove %v: was there: %v", p, model[p])
				}
				delete(model, p)
				delete(submodel, p)
			},
			"": func(t *rapid.T) {
				if s.len() != len(model) {
					t.Fatalf("len %d, want %d", s.len(), len(model))
				}
				want := u128{}
				for model[want] {
					want = want.inc()
				}
				if got, ok := s.firstAbsent(); ok && got != want || !ok && want == (u128{}) {
					t.Fatalf("first absent %v %v, want %v", got, ok, want)
				}
				from := genPosition(t, last)
				for name, without := range map[string]*set{"all": nil, "rest": &sub} {
					got, ok := s.next(from, without)
					best, found := u128{}, false
					for p := range model {
						if !p.less(from) && (without == nil || !submodel[p]) && (!found || p.less(best)) {
							best, found = p, true
						}
					}
					if ok != found || ok && got != best {
						t.Fatalf("%s: next from %v: %v %v, want %v %v", name, from, got, ok, best, found)
					}
				}
			},
		})
	})
}

func TestPositionsOfAddresses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SampledFrom([]int{0, 8, 20, 23, 24, 25, 30, 31, 32}).Draw(t, "bits")
		base := netip.AddrFrom4([4]byte{10, 1, byte(rapid.IntRange(0, 255).Draw(t, "third")), byte(rapid.IntRange(0, 255).Draw(t, "fourth"))})
		prefix := netip.PrefixFrom(base, bits).Masked()
		buggy := rapid.Bool().Draw(t, "avoid buggy")
		s := newStock(nil, []netip.Prefix{netip.MustParsePrefix("10.200.0.0/31"), prefix}, buggy)
		addr := prefix.Addr()
		if bits == 0 {
			addr = netip.AddrFrom4([4]byte{200, 1, 2, byte(rapid.IntRange(0, 255).Draw(t, "octet"))})
		}
		for i := 0; i < 600 && prefix.Contains(addr); i, addr = i+1, addr.Next() {
			octet := addr.As4()[3]
			var pos u128
			ok := false
			for j := range s.spans {
				if s.spans[j].prefix == prefix {
					pos, ok = s.spans[j].position(addr)
				}
			}
			if want := !buggy || octet != 0 && octet != 255; ok != want {
				t.Fatalf("%s in %s: in stock %v, want %v", addr, prefix, ok, want)
			}
			if ok && s.address(pos) != addr {
				t.Fatalf("%s has position %v, which is %s", addr, pos, s.address(pos))
			}
		}
	})
}

func TestCapacity(t *testing.T) {
	tests := []struct {
		name       string
		prefixes   []string
		avoidBuggy bool
		v4, v6     int64
	}{
		{"a /24", []string{"10.0.0.0/24"}, false, 256, 0},
		{"a /24 without .0 and .255", []string{"10.0.0.0/24"}, true, 254, 0},
		{"a /16 without .0 and .255", []string{"10.0.0.0/16"}, true, 256 * 254, 0},
		{"all of IPv4", []string{"0.0.0.0/0"}, false, 1 << 32, 0},
		{"a /25 loses one end", []string{"10.0.0.128/25"}, true, 127, 0},
		{"a /26 in the middle loses nothing", []string{"10.0.0.64/26"}, true, 64, 0},
		{"a single .0 is nothing, not less than nothing", []string{"10.0.0.0/32"}, true, 0, 0},
		{"a single .255 beside another range", []string{"10.0.0.255/32", "10.0.1.0/31"}, true, 1, 0},
		{"IPv6 keeps all", []string{"fd00::/120"}, true, 0, 256},
		{"an IPv6 /64 never runs out and harms no sum", []string{"10.0.0.0/30", "fd00::/64", "fd01::/64"}, false, 4, math.MaxInt64},
		{"all of IPv6", []string{"::/0"}, false, 0, math.MaxInt64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := &config.Pool{Name: "p", AvoidBuggyIPs: tt.avoidBuggy, AutoAssign: true}
			for _, p := range tt.prefixes {
				cfg.Prefixes = append(cfg.Prefixes, netip.MustParsePrefix(p))
			}
			a := New()
			a.SetPools([]*config.Pool{cfg})
			u := a.Usage()[0]
			if u.TotalIPv4 != tt.v4 || u.TotalIPv6 != tt.v6 || u.AvailableIPv4 != tt.v4 || u.AvailableIPv6 != tt.v6 {
				t.Errorf("usage %+v, want %d and %d", u, tt.v4, tt.v6)
			}
		})
	}
}

// One more Service on a pool of any size is one less address, until the number
// is beyond what an int64 tells.
func TestHugePoolsGiveTheirFirstAddress(t *testing.T) {
	for prefix, want := range map[string]string{"::/0": "::", "fd00::/64": "fd00::", "2001:db8::/32": "2001:db8::", "fd00::/66": "fd00::"} {
		a := New()
		a.SetPools([]*config.Pool{{Name: "p", AutoAssign: true, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}})
		for i, svc := range benchServices(200) {
			svc.ClusterIPs = []netip.Addr{netip.MustParseAddr("fd96::1")}
			got := a.Assign(svc)[0]
			first := netip.MustParseAddr(want)
			for range i {
				first = first.Next()
			}
			if len(got.Addresses) != 1 || got.Addresses[0] != first {
				t.Fatalf("%s: Service %d got %v, want %s", prefix, i, got.Addresses, first)
			}
		}
		if u := a.Usage()[0]; u.AvailableIPv6 < 1<<62-200 || u.AssignedIPv6 != 200 {
			t.Errorf("%s: %+v", prefix, u)
		}
	}
}

// Thousands of Services under one sharing key and one port each take an
// address of their own, and finding it must not look at all the others.
func TestManySharersOnOnePort(t *testing.T) {
	a := New()
	a.SetPools(benchPool("10.0.0.0/16"))
	services := benchServices(3000)
	for i, svc := range services {
		svc.SharingKey = "k"
		if d := a.Assign(svc)[0]; number(d.Addresses[0]).lo&0xffff != uint64(i) {
			t.Fatalf("Service %d got %v", i, d.Addresses)
		}
	}
	guest := *services[0]
	guest.Key.Name, guest.Ports = "guest", []service.Port{{Protocol: "UDP", Port: 53}}
	if d := a.Assign(&guest)[0]; d.Addresses[0] != netip.MustParseAddr("10.0.0.0") {
		t.Errorf("a Service with another port got %v, want to join the lowest address", d.Addresses)
	}
}
