package ipam_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/labels"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// A world is an Allocator and everything that it was told, so that what it
// answers can be judged by brute force.
type world struct {
	a        *ipam.Allocator
	pools    []*config.Pool
	ns       map[string]labels.Set
	services map[service.Key]*service.Service
	has      map[service.Key]ipam.Decision
	grace    bool
}

func newWorld() *world {
	return &world{
		a:        ipam.New(),
		ns:       map[string]labels.Set{},
		services: map[service.Key]*service.Service{},
		has:      map[service.Key]ipam.Decision{},
		grace:    true,
	}
}

func (w *world) take(list []ipam.Decision) {
	for _, d := range list {
		w.has[d.Service.Key] = d
	}
}

// each lists the addresses that a pool gives out, in scan order.
func each(p *config.Pool, v4 bool) []netip.Addr {
	var list []netip.Addr
	for _, prefix := range p.Prefixes {
		if prefix.Addr().Is4() != v4 {
			continue
		}
		for a := prefix.Addr(); prefix.Contains(a); a = a.Next() {
			if last := a.AsSlice()[a.BitLen()/8-1]; v4 && p.AvoidBuggyIPs && (last == 0 || last == 255) {
				continue
			}
			list = append(list, a)
		}
	}
	return list
}

func holds(p *config.Pool, addr netip.Addr) bool { return slices.Contains(each(p, addr.Is4()), addr) }

func (w *world) poolOf(addrs []netip.Addr) *config.Pool {
	for _, p := range w.pools {
		if !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !holds(p, a) }) {
			return p
		}
	}
	return nil
}

func (w *world) admits(p *config.Pool, svc *service.Service) bool {
	if p.Pin == nil {
		return true
	}
	_, named := p.Pin.Namespaces[svc.Key.Namespace]
	inNamespace := p.Pin.AnyNamespace || named
	for _, s := range p.Pin.NamespaceSelectors {
		if set, ok := w.ns[svc.Key.Namespace]; ok && s.Matches(set) {
			inNamespace = true
		}
	}
	if len(p.Pin.ServiceSelectors) == 0 {
		return inNamespace
	}
	return inNamespace && slices.ContainsFunc(p.Pin.ServiceSelectors, func(s labels.Selector) bool { return s.Matches(labels.Set(svc.Labels)) })
}

func mayShare(a, b *service.Service) bool {
	return a.SharingKey != "" && a.SharingKey == b.SharingKey && a.BackendKey == b.BackendKey &&
		!slices.ContainsFunc(a.Ports, func(p service.Port) bool { return slices.Contains(b.Ports, p) })
}

// usable reports whether svc could hold addr beside all that hold it.
func (w *world) usable(svc *service.Service, addr netip.Addr) bool {
	for key, d := range w.has {
		if key != svc.Key && slices.Contains(d.Addresses, addr) && !mayShare(svc, w.services[key]) {
			return false
		}
	}
	return true
}

// aside reports whether a Service without it, that could have it but for its
// holders, asks for addr by name.
func (w *world) aside(addr netip.Addr) bool {
	for key, d := range w.has {
		svc := w.services[key]
		if len(d.Addresses) == 0 && slices.Contains(svc.WantAddresses, addr) &&
			(d.Reason == reason.AddressInUse || d.Reason == reason.SharingConflict || d.Reason == reason.PortConflict) {
			return true
		}
	}
	return false
}

// first is the first address of a pool that svc could be given unasked.
func (w *world) first(p *config.Pool, svc *service.Service, v4 bool) (netip.Addr, bool) {
	for _, addr := range each(p, v4) {
		if w.usable(svc, addr) && !w.aside(addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func wantedFamilies(svc *service.Service) (v4, v6 bool) {
	for _, ip := range svc.ClusterIPs {
		v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
	}
	return
}

// expect is what a Service that has nothing should be given, by brute force.
func (w *world) expect(svc *service.Service) []netip.Addr {
	v4, v6 := wantedFamilies(svc)
	if !v4 && !v6 || svc.Policy == service.RequireDualStack && !(v4 && v6) {
		return nil
	}
	if want := svc.WantAddresses; len(want) > 0 {
		p := w.poolOf(want)
		var has4, has6 bool
		for _, a := range want {
			has4, has6 = has4 || a.Is4(), has6 || a.Is6()
		}
		if p == nil || has4 != v4 || has6 != v6 || !w.admits(p, svc) || svc.WantPool != "" && svc.WantPool != p.Name ||
			slices.ContainsFunc(want, func(a netip.Addr) bool { return !w.usable(svc, a) }) {
			return nil
		}
		return want
	}
	var stages [][]*config.Pool
	if svc.WantPool != "" {
		for _, p := range w.pools {
			if p.Name == svc.WantPool {
				stages = [][]*config.Pool{{p}}
			}
		}
	} else {
		var pinned, unpinned []*config.Pool
		for _, p := range w.pools {
			switch {
			case !p.AutoAssign:
			case p.Pin != nil:
				pinned = append(pinned, p)
			default:
				unpinned = append(unpinned, p)
			}
		}
		slices.SortStableFunc(pinned, func(a, b *config.Pool) int { return rank(a) - rank(b) })
		stages = [][]*config.Pool{pinned, unpinned}
	}
	for _, stage := range stages {
		if got := w.expectFrom(stage, svc, v4, v6); got != nil {
			return got
		}
	}
	return nil
}

// rank orders pools by priority, zero and negative last; ties keep name order.
func rank(p *config.Pool) int {
	if p.Pin.Priority <= 0 {
		return 1 << 30
	}
	return p.Pin.Priority
}

func (w *world) expectFrom(pools []*config.Pool, svc *service.Service, v4, v6 bool) []netip.Addr {
	var only4, only6 []netip.Addr
	for _, p := range pools {
		if !w.admits(p, svc) {
			continue
		}
		a4, ok4 := w.first(p, svc, true)
		a6, ok6 := w.first(p, svc, false)
		switch {
		case v4 && v6 && ok4 && ok6:
			return []netip.Addr{a4, a6}
		case v4 && !v6 && ok4:
			return []netip.Addr{a4}
		case v6 && !v4 && ok6:
			return []netip.Addr{a6}
		}
		if ok4 && only4 == nil {
			only4 = []netip.Addr{a4}
		}
		if ok6 && only6 == nil {
			only6 = []netip.Addr{a6}
		}
	}
	if !v4 || !v6 || svc.Policy != service.PreferDualStack {
		return nil
	}
	if only4 == nil || svc.PreferIPv6 && only6 != nil {
		return only6
	}
	return only4
}

// check judges the present state.
func (w *world) check(t *rapid.T) {
	t.Helper()
	used := map[string]map[netip.Addr]bool{}
	for key, d := range w.has {
		svc := w.services[key]
		if now, ok := w.a.Decision(key); !ok || !cmp.Equal(now.Addresses, d.Addresses, cmpopts.EquateComparable(netip.Addr{})) {
			t.Fatalf("%s: an unreported change: %v is now %v", key, d.Addresses, now.Addresses)
		}
		if d.Reason == "" || d.Reason != reason.Assigned && d.Message == "" || d.Reason.Sentence() == "" {
			t.Fatalf("%s: decision without reason or message: %+v", key, d)
		}
		if d.Reason == reason.Assigned && len(d.Addresses) == 0 {
			t.Fatalf("%s: assigned nothing", key)
		}
		for _, addr := range d.Addresses {
			if !w.usable(svc, addr) {
				t.Fatalf("%s: %s is held by another that does not share it", key, addr)
			}
		}
		if len(d.Addresses) == 0 {
			if got := w.expect(svc); got != nil {
				t.Fatalf("%s waits (%s: %s) though it could have %v", key, d.Reason, d.Message, got)
			}
			continue
		}
		p := w.poolOf(d.Addresses)
		if p == nil || w.grace && d.Reason == reason.PoolMissing {
			if d.Reason != reason.PoolMissing || !w.grace {
				t.Fatalf("%s holds %v (%s), which no pool has", key, d.Addresses, d.Reason)
			}
			continue
		}
		if d.Pool != p.Name || !w.admits(p, svc) {
			t.Fatalf("%s holds %v from %q; the pool is %q, which admits it: %v", key, d.Addresses, d.Pool, p.Name, w.admits(p, svc))
		}
		if d.Reason == reason.OneFamilyOnly {
			if addr, ok := w.first(p, svc, !d.Addresses[0].Is4()); ok {
				t.Fatalf("%s lacks a second address though %s is there", key, addr)
			}
		}
		for _, addr := range d.Addresses {
			if used[p.Name] == nil {
				used[p.Name] = map[netip.Addr]bool{}
			}
			used[p.Name][addr] = true
		}
	}
	w.checkUsage(t, used)
}

func (w *world) checkUsage(t *rapid.T, used map[string]map[netip.Addr]bool) {
	t.Helper()
	for _, u := range w.a.Usage() {
		i := slices.IndexFunc(w.pools, func(p *config.Pool) bool { return p.Name == u.Pool })
		want := ipam.Usage{Pool: u.Pool, Services: u.Services}
		for addr := range used[u.Pool] {
			if addr.Is4() {
				want.AssignedIPv4++
			} else {
				want.AssignedIPv6++
			}
		}
		want.TotalIPv4 = int64(len(each(w.pools[i], true)))
		want.TotalIPv6 = int64(len(each(w.pools[i], false)))
		want.AvailableIPv4 = want.TotalIPv4 - want.AssignedIPv4
		want.AvailableIPv6 = want.TotalIPv6 - want.AssignedIPv6
		if diff := cmp.Diff(want, u); diff != "" && !w.grace {
			t.Fatalf("usage (-want +got)\n%s", diff)
		}
	}
}

var (
	ranges = []string{"10.0.0.0/30", "10.0.0.252/30", "10.0.1.255/32", "10.0.2.0/31", "fd00::/126", "fd00:1::/127", "10.0.3.0/31", "fd00:2::/127"}
	keys   = genKeys()
)

func genKeys() (list []service.Key) {
	for _, ns := range []string{"a", "b", "c"} {
		for _, name := range []string{"x", "y", "z"} {
			list = append(list, service.Key{Namespace: ns, Name: name})
		}
	}
	return list
}

func genPools(t *rapid.T) []*config.Pool {
	var pools []*config.Pool
	owner := map[string]int{}
	for _, r := range ranges {
		owner[r] = rapid.IntRange(-2, 3).Draw(t, "pool of "+r)
	}
	for i, name := range []string{"p0", "p1", "p2", "p3"} {
		p := &config.Pool{Name: name, AutoAssign: rapid.IntRange(0, 4).Draw(t, "auto") > 0, AvoidBuggyIPs: rapid.IntRange(0, 3).Draw(t, "buggy") == 0}
		for _, r := range ranges {
			if owner[r] == i {
				p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(r))
			}
		}
		if rapid.Bool().Draw(t, "reverse") {
			slices.Reverse(p.Prefixes)
		}
		if rapid.IntRange(0, 2).Draw(t, "pinned") == 0 {
			p.Pin = genPin(t)
		}
		if len(p.Prefixes) > 0 {
			pools = append(pools, p)
		}
	}
	return pools
}

func genPin(t *rapid.T) *config.Pin {
	pin := &config.Pin{Priority: rapid.IntRange(-1, 2).Draw(t, "priority")}
	switch rapid.IntRange(0, 3).Draw(t, "namespaces") {
	case 0:
		pin.AnyNamespace = true
	case 1:
		pin.Namespaces = map[string]struct{}{"a": {}}
	case 2:
		pin.NamespaceSelectors = []labels.Selector{labels.SelectorFromSet(labels.Set{"team": "red"})}
	case 3:
		pin.AnyNamespace = true
		pin.ServiceSelectors = []labels.Selector{labels.SelectorFromSet(labels.Set{"tier": "gold"})}
	}
	return pin
}

func genService(t *rapid.T, key service.Key, age int) *service.Service {
	svc := &service.Service{Key: key, UID: fmt.Sprint(key, age), Created: time.Unix(int64(age), 0), LoadBalancer: true}
	v4, v6 := netip.MustParseAddr("10.96.0.1"), netip.MustParseAddr("fd96::1")
	svc.Policy = service.FamilyPolicy(rapid.IntRange(0, 2).Draw(t, "policy"))
	switch rapid.IntRange(0, 4).Draw(t, "families") {
	case 0, 1:
		svc.ClusterIPs = []netip.Addr{v4}
	case 2:
		svc.ClusterIPs = []netip.Addr{v6}
	case 3:
		svc.ClusterIPs = []netip.Addr{v4, v6}
	case 4:
		svc.ClusterIPs, svc.PreferIPv6 = []netip.Addr{v6, v4}, true
	}
	if len(svc.ClusterIPs) == 2 && svc.Policy == service.SingleStack {
		svc.Policy = service.PreferDualStack
	}
	svc.SharingKey = rapid.SampledFrom([]string{"", "", "k", "l"}).Draw(t, "key")
	svc.BackendKey = rapid.SampledFrom([]string{"", "", "app=web"}).Draw(t, "backend")
	for _, port := range []uint16{53, 80, 443} {
		if rapid.IntRange(0, 2).Draw(t, "port") == 0 {
			svc.Ports = append(svc.Ports, service.Port{Protocol: rapid.SampledFrom([]string{"TCP", "UDP"}).Draw(t, "protocol"), Port: port})
		}
	}
	svc.Labels = map[string]string{"tier": rapid.SampledFrom([]string{"gold", "tin"}).Draw(t, "tier")}
	if rapid.IntRange(0, 3).Draw(t, "by name") == 0 {
		if len(svc.ClusterIPs) == 2 {
			svc.WantAddresses = []netip.Addr{genAddr(t, false), genAddr(t, true)}
		} else {
			svc.WantAddresses = []netip.Addr{genAddr(t, svc.ClusterIPs[0].Is4())}
		}
	}
	svc.WantPool = rapid.SampledFrom([]string{"", "", "", "", "p0", "p1", "p9"}).Draw(t, "want pool")
	return svc
}

func genAddr(t *rapid.T, v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 2).Draw(t, "third")), byte(rapid.SampledFrom([]int{0, 1, 2, 252, 255}).Draw(t, "last"))})
	}
	return netip.MustParseAddr(fmt.Sprintf("fd00::%d", rapid.IntRange(0, 4).Draw(t, "last")))
}

// told is the Service as the API would show it after the decision was written.
func (w *world) told(key service.Key) *service.Service {
	svc := *w.services[key]
	svc.Addresses, svc.Pool = w.has[key].Addresses, w.has[key].Pool
	return &svc
}

func (w *world) inOrder() []*service.Service {
	var list []*service.Service
	for _, key := range slices.SortedFunc(maps.Keys(w.services), func(a, b service.Key) int {
		return slices.Compare([]string{a.Namespace, a.Name}, []string{b.Namespace, b.Name})
	}) {
		list = append(list, w.told(key))
	}
	return list
}

// TestAllocatorAgainstBruteForce runs random histories and judges every state.
func TestAllocatorAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		age := 0
		t.Repeat(map[string]func(*rapid.T){
			"": w.check,
			"pools": func(t *rapid.T) {
				before := maps.Clone(w.has)
				w.pools = genPools(t)
				w.take(w.a.SetPools(w.pools))
				w.checkKept(t, before, service.Key{})
			},
			"namespace": func(t *rapid.T) {
				before := maps.Clone(w.has)
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "namespace")
				w.ns[name] = labels.Set{"team": rapid.SampledFrom([]string{"red", "blue"}).Draw(t, "team")}
				w.take(w.a.SetNamespace(name, w.ns[name]))
				w.checkKept(t, before, service.Key{})
			},
			"new": func(t *rapid.T) {
				key := rapid.SampledFrom(keys).Draw(t, "key")
				if _, ok := w.services[key]; ok {
					t.Skip("exists")
				}
				age++
				before := maps.Clone(w.has)
				svc := genService(t, key, age)
				want := w.expect(svc)
				w.services[key] = svc
				list := w.a.Assign(svc)
				if diff := cmp.Diff(want, list[0].Addresses, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
					t.Fatalf("%s: %+v (-want +got)\n%s", key, list[0], diff)
				}
				w.take(list)
				w.checkKept(t, before, key)
			},
			"change": func(t *rapid.T) {
				key := rapid.SampledFrom(keys).Draw(t, "key")
				old, ok := w.services[key]
				if !ok {
					t.Skip("unknown")
				}
				before := maps.Clone(w.has)
				svc := genService(t, key, age)
				svc.UID, svc.Created = old.UID, old.Created
				svc.Addresses, svc.Pool = w.has[key].Addresses, w.has[key].Pool
				w.services[key] = svc
				w.take(w.a.Assign(svc))
				w.checkKept(t, before, key)
			},
			"repeat": func(t *rapid.T) {
				for key := range w.services {
					before := w.has[key]
					list := w.a.Assign(w.told(key))
					before.Service, list[0].Service, before.Lost = nil, nil, nil
					if diff := cmp.Diff(before, list[0], cmpopts.EquateComparable(netip.Addr{})); diff != "" || len(list) > 1 {
						t.Fatalf("%s: repeated, %d others changed (-before +after)\n%s", key, len(list)-1, diff)
					}
				}
			},
			"delete": func(t *rapid.T) {
				key := rapid.SampledFrom(keys).Draw(t, "key")
				before := maps.Clone(w.has)
				delete(w.services, key)
				delete(w.has, key)
				w.take(w.a.Release(key))
				w.checkKept(t, before, key)
			},
			"end of grace": func(t *rapid.T) {
				before := maps.Clone(w.has)
				w.grace = false
				w.take(w.a.EndGrace())
				w.checkKept(t, before, service.Key{})
			},
			"restart": func(t *rapid.T) {
				before := maps.Clone(w.has)
				list := rapid.Permutation(w.inOrder()).Draw(t, "order")
				w.a, w.grace = ipam.New(), true
				for name, set := range w.ns {
					w.a.SetNamespace(name, set)
				}
				if rapid.Bool().Draw(t, "pools first") {
					w.a.SetPools(w.pools)
					w.take(w.a.Adopt(list))
				} else {
					w.take(w.a.Adopt(list))
					w.take(w.a.SetPools(w.pools))
				}
				w.checkKept(t, before, service.Key{})
			},
		})
	})
}

// checkKept finds a Service, other than the one that changed, that lost an
// address it could have kept.
func (w *world) checkKept(t *rapid.T, before map[service.Key]ipam.Decision, changed service.Key) {
	t.Helper()
	for key, old := range before {
		now, ok := w.has[key]
		if key == changed || !ok || len(old.Addresses) == 0 {
			continue
		}
		p := w.poolOf(old.Addresses)
		valid := p != nil && w.admits(p, w.services[key])
		if svc := w.services[key]; svc.WantPool != "" && p != nil && p.Name != svc.WantPool {
			valid = false
		}
		for _, addr := range old.Addresses {
			if valid && !slices.Contains(now.Addresses, addr) && !upgraded(w.services[key], old) {
				t.Fatalf("%s held %v from %q and lost it without need: now %v (%s, lost: %+v)", key, old.Addresses, old.Pool, now.Addresses, now.Reason, now.Lost)
			}
		}
	}
}

// upgraded reports whether a Service held one address though it needs two.
func upgraded(svc *service.Service, d ipam.Decision) bool {
	v4, v6 := wantedFamilies(svc)
	return v4 && v6 && svc.Policy == service.RequireDualStack && len(d.Addresses) == 1
}

// FuzzAllocator drives the same history from bytes.
func FuzzAllocator(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				w.pools = genPools(t)
				w.take(w.a.SetPools(w.pools))
			case 1, 2:
				key := rapid.SampledFrom(keys).Draw(t, "key")
				svc := genService(t, key, 0)
				svc.UID = ""
				if rapid.Bool().Draw(t, "has status") {
					svc.Addresses = []netip.Addr{genAddr(t, true), genAddr(t, false)}[:rapid.IntRange(1, 2).Draw(t, "n")]
				}
				w.services[key] = svc
				w.take(w.a.Assign(svc))
			case 3:
				key := rapid.SampledFrom(keys).Draw(t, "key")
				delete(w.services, key)
				delete(w.has, key)
				w.take(w.a.Release(key))
			}
			w.grace = true
			w.check(t)
		}
	}))
}
