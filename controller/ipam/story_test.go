package ipam_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/controller/ipam"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/internal/service"
)

// A story tells an Allocator things and says what must then be so. It speaks
// of Services by name and of addresses as text.
type story struct {
	t        *testing.T
	a        *ipam.Allocator
	services map[string]*service.Service
	pools    map[string]*config.Pool
	has      map[string]ipam.Decision
}

func tell(t *testing.T) *story {
	t.Helper()
	return &story{t, ipam.New(), map[string]*service.Service{}, map[string]*config.Pool{}, map[string]ipam.Decision{}}
}

func (s *story) take(list []ipam.Decision) {
	for _, d := range list {
		s.has[d.Service.Key.Name] = d
	}
}

// pool adds or replaces a pool; ranges are joined by spaces.
func (s *story) pool(name, ranges string, change ...func(*config.Pool)) *story {
	p := &config.Pool{Name: name, AutoAssign: true}
	for _, r := range strings.Fields(ranges) {
		p.Prefixes = append(p.Prefixes, netip.MustParsePrefix(r))
	}
	for _, c := range change {
		c(p)
	}
	s.pools[name] = p
	return s.configure()
}

func (s *story) without(name string) *story {
	delete(s.pools, name)
	return s.configure()
}

func (s *story) configure() *story {
	var list []*config.Pool
	for _, p := range s.pools {
		list = append(list, p)
	}
	s.take(s.a.SetPools(list))
	return s
}

// service adds or changes a Service. A new one is younger than all before.
func (s *story) service(name string, change ...func(*service.Service)) *story {
	old := s.services[name]
	svc := &service.Service{
		Key: service.Key{Namespace: "apps", Name: name}, UID: name, LoadBalancer: true,
		Created:    time.Unix(int64(len(s.services)), 0),
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")},
		Ports:      []service.Port{{Protocol: "TCP", Port: 80}},
	}
	if old != nil {
		next := *old
		next.Addresses, next.Pool = s.has[name].Addresses, s.has[name].Pool
		svc = &next
	}
	for _, c := range change {
		c(svc)
	}
	s.services[name] = svc
	s.take(s.a.Assign(svc))
	return s
}

func (s *story) remove(name string) *story {
	s.take(s.a.Release(s.services[name].Key))
	delete(s.has, name)
	return s
}

// expect compares addresses, joined by commas.
func (s *story) expect(want ...string) *story {
	s.t.Helper()
	for _, pair := range want {
		name, ips, _ := strings.Cut(pair, "=")
		var got []string
		for _, a := range s.has[name].Addresses {
			got = append(got, a.String())
		}
		if strings.Join(got, ",") != ips {
			s.t.Errorf("%s has %q, want %q (%s: %s)", name, strings.Join(got, ","), ips, s.has[name].Reason, s.has[name].Message)
		}
	}
	return s
}

// refused compares the reason and looks for words in the sentence.
func (s *story) refused(name string, why reason.Reason, words ...string) *story {
	s.t.Helper()
	d := s.has[name]
	if d.Reason != why {
		s.t.Errorf("%s: reason %s (%s), want %s", name, d.Reason, d.Message, why)
	}
	for _, w := range words {
		if !strings.Contains(d.Message, w) {
			s.t.Errorf("%s: %q does not mention %q", name, d.Message, w)
		}
	}
	return s
}

func families(policy service.FamilyPolicy, ips ...string) func(*service.Service) {
	return func(svc *service.Service) {
		svc.Policy, svc.ClusterIPs = policy, nil
		for _, ip := range ips {
			svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr(ip))
		}
		svc.PreferIPv6 = svc.ClusterIPs[0].Is6()
	}
}

var (
	prefer   = families(service.PreferDualStack, "10.96.0.1", "fd96::1")
	prefer6  = families(service.PreferDualStack, "fd96::1", "10.96.0.1")
	require  = families(service.RequireDualStack, "10.96.0.1", "fd96::1")
	onlyIPv6 = families(service.SingleStack, "fd96::1")
)

func ask(ips ...string) func(*service.Service) {
	return func(svc *service.Service) {
		svc.WantAddresses = nil
		for _, ip := range ips {
			svc.WantAddresses = append(svc.WantAddresses, netip.MustParseAddr(ip))
		}
	}
}

func fromPool(name string) func(*service.Service) {
	return func(svc *service.Service) { svc.WantPool = name }
}

func share(key, backend string, ports ...string) func(*service.Service) {
	return func(svc *service.Service) {
		svc.SharingKey, svc.BackendKey, svc.Ports = key, backend, nil
		for _, p := range ports {
			var port service.Port
			number, protocol, _ := strings.Cut(p, "/")
			if _, err := fmt.Sscan(number, &port.Port); err != nil {
				panic(err)
			}
			port.Protocol = protocol
			svc.Ports = append(svc.Ports, port)
		}
	}
}

func labelled(key, value string) func(*service.Service) {
	return func(svc *service.Service) { svc.Labels = map[string]string{key: value} }
}

func in(namespace string) func(*service.Service) {
	return func(svc *service.Service) { svc.Key.Namespace = namespace }
}

func pinned(priority int, change ...func(*config.Pin)) func(*config.Pool) {
	return func(p *config.Pool) {
		p.Pin = &config.Pin{Priority: priority, AnyNamespace: true}
		for _, c := range change {
			c(p.Pin)
		}
	}
}

func toNamespace(name string) func(*config.Pin) {
	return func(p *config.Pin) { p.AnyNamespace, p.Namespaces = false, map[string]struct{}{name: {}} }
}

func toTeam(team string) func(*config.Pin) {
	return func(p *config.Pin) {
		p.AnyNamespace, p.NamespaceSelectors = false, []labels.Selector{labels.SelectorFromSet(labels.Set{"team": team})}
	}
}

func toTier(tier string) func(*config.Pin) {
	return func(p *config.Pin) {
		p.ServiceSelectors = []labels.Selector{labels.SelectorFromSet(labels.Set{"tier": tier})}
	}
}

func manual(p *config.Pool)     { p.AutoAssign = false }
func avoidBuggy(p *config.Pool) { p.AvoidBuggyIPs = true }
func incomplete(p *config.Pool) { p.Incomplete = true }

func TestWhichAddress(t *testing.T) {
	stories := map[string]func(s *story){
		"the first of the first entry, in the order of the list": func(s *story) {
			s.pool("p", "10.0.1.0/31 10.0.0.0/31").service("a").service("b").service("c").expect("a=10.0.1.0", "b=10.0.1.1", "c=10.0.0.0")
		},
		"a freed low address is used again at once": func(s *story) {
			s.pool("p", "10.0.0.0/29").service("a").service("b").service("c").remove("a").service("d").expect("d=10.0.0.0", "b=10.0.0.1")
		},
		".0 and .255 are left out where asked": func(s *story) {
			s.pool("p", "10.0.0.254/31 10.0.1.0/31", avoidBuggy).service("a").service("b").expect("a=10.0.0.254", "b=10.0.1.1")
			s.service("c").refused("c", reason.PoolExhausted, `pool "p"`)
			s.service("d", ask("10.0.0.255")).refused("d", reason.AddressNotInPool, "10.0.0.255")
		},
		"turning on avoidBuggyIPs moves who sits on one": func(s *story) {
			s.pool("p", "10.0.0.0/29").service("a").expect("a=10.0.0.0").pool("p", "10.0.0.0/29", avoidBuggy).expect("a=10.0.0.1")
		},
		"unpinned pools in name order": func(s *story) {
			s.pool("z", "10.0.0.0/32").pool("a", "10.1.0.0/32").service("x").service("y").expect("x=10.1.0.0", "y=10.0.0.0")
		},
		"a pool without autoAssign waits to be asked": func(s *story) {
			s.pool("m", "10.0.0.0/30", manual).service("a").refused("a", reason.NoPoolForService)
			s.service("b", fromPool("m")).service("c", ask("10.0.0.3")).expect("b=10.0.0.0", "c=10.0.0.3")
		},
		"turning autoAssign off takes nothing away": func(s *story) {
			s.pool("m", "10.0.0.0/30").service("a").pool("m", "10.0.0.0/30", manual).expect("a=10.0.0.0").refused("a", reason.Assigned)
		},
		"pinned pools before others; positive priorities first, then zero and negative by name": func(s *story) {
			s.pool("a", "10.0.0.0/32").pool("neg", "10.0.1.0/32", pinned(-3)).pool("hi", "10.0.2.0/32", pinned(20)).pool("lo", "10.0.3.0/32", pinned(10)).pool("zero", "10.0.4.0/32", pinned(0))
			s.service("1").service("2").service("3").service("4").service("5")
			s.expect("1=10.0.3.0", "2=10.0.2.0", "3=10.0.1.0", "4=10.0.4.0", "5=10.0.0.0")
		},
		"a better pool that appears moves nobody": func(s *story) {
			s.pool("a", "10.0.0.0/30").service("x").pool("best", "10.9.0.0/30", pinned(1)).expect("x=10.0.0.0").service("y").expect("y=10.9.0.0")
		},
		"a pool for one namespace and one tier": func(s *story) {
			s.pool("vip", "10.0.0.0/30", pinned(1, toNamespace("prod"), toTier("gold"))).pool("rest", "10.1.0.0/30")
			s.service("a", in("prod"), labelled("tier", "gold")).service("b", in("prod")).service("c", labelled("tier", "gold"))
			s.expect("a=10.0.0.0", "b=10.1.0.0", "c=10.1.0.1")
			s.service("d", fromPool("vip")).refused("d", reason.PoolNotAllowed, `"vip"`, "apps/d")
			s.service("e", ask("10.0.0.2")).refused("e", reason.PoolNotAllowed)
		},
		"a namespace selector that matches nothing admits nobody, asked or not": func(s *story) {
			s.pool("team", "10.0.0.0/30", pinned(1, toTeam("red")))
			s.service("a").refused("a", reason.NoPoolForService)
			s.service("b", fromPool("team")).refused("b", reason.PoolNotAllowed)
			s.service("c", ask("10.0.0.1")).refused("c", reason.PoolNotAllowed)
			s.take(s.a.SetNamespace("apps", labels.Set{"team": "red"}))
			s.expect("c=10.0.0.1", "a=10.0.0.0", "b=10.0.0.2")
			s.take(s.a.SetNamespace("apps", labels.Set{"team": "blue"}))
			s.expect("a=", "b=", "c=")
			s.take(s.a.SetNamespace("apps", labels.Set{"team": "red"}))
			s.take(s.a.DeleteNamespace("apps"))
			s.expect("a=", "b=", "c=")
		},
		"a selector that cannot be read takes nothing away and gives nothing": func(s *story) {
			broken := func(p *config.Pin) { p.ServiceSelectors, p.Incomplete = []labels.Selector{labels.Nothing()}, true }
			s.pool("p", "10.0.0.0/30", pinned(1)).service("a").pool("p", "10.0.0.0/30", pinned(1, broken)).expect("a=10.0.0.0")
			s.service("b").refused("b", reason.NoPoolForService)
			s.pool("p", "10.0.0.0/30", pinned(1)).expect("a=10.0.0.0", "b=10.0.0.1")
		},
		"an older pool that comes to overlap takes nothing from the holders of the younger": func(s *story) {
			s.pool("young", "10.0.0.0/30").service("a").expect("a=10.0.0.0")
			s.pools["young"] = &config.Pool{Name: "young", AutoAssign: true, Incomplete: true}
			s.pool("old", "10.0.0.0/24", pinned(1, toTeam("red"))).expect("a=10.0.0.0").refused("a", reason.PoolMissing, `"young"`)
			s.take(s.a.SetNamespace("apps", labels.Set{"team": "red"}))
			s.service("b").expect("a=10.0.0.0", "b=10.0.0.1").refused("a", reason.Assigned)
		},
		"nor is it taken back when the overlap ends": func(s *story) {
			s.pool("young", "10.0.0.0/30").service("a")
			s.pools["young"] = &config.Pool{Name: "young", AutoAssign: true, Incomplete: true}
			s.pool("old", "10.0.0.0/24", pinned(1, toTeam("red"))).without("old").expect("a=10.0.0.0")
			s.pool("young", "10.0.0.0/30").expect("a=10.0.0.0").refused("a", reason.Assigned)
			s.service("b").expect("b=10.0.0.1")
		},
		"a pool that can be read and moved away does": func(s *story) {
			s.pool("young", "10.0.0.0/30").service("a")
			s.pools["young"] = &config.Pool{Name: "young", AutoAssign: true}
			s.pool("old", "10.0.0.0/24", pinned(1, toTeam("red"))).expect("a=")
		},
		"an address asked for by one who waits is given to nobody else": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126")
			s.service("holder", onlyIPv6, ask("fd00::"))
			s.service("waits", require, ask("10.0.0.0", "fd00::")).refused("waits", reason.AddressInUse, "fd00::", "apps/holder")
			s.service("other").expect("other=10.0.0.1")
			s.remove("holder").expect("waits=10.0.0.0,fd00::")
		},
	}
	run(t, stories)
}

func run(t *testing.T, stories map[string]func(*story)) {
	t.Helper()
	for name, tale := range stories {
		t.Run(name, func(t *testing.T) {
			s := tell(t)
			s.a.EndGrace()
			tale(s)
		})
	}
}

func TestFamilies(t *testing.T) {
	run(t, map[string]func(*story){
		"one of each, IPv4 first, whatever ipFamilies says": func(s *story) {
			s.pool("p", "fd00::/126 10.0.0.0/30").service("a", prefer6).service("b", require).expect("a=10.0.0.0,fd00::", "b=10.0.0.1,fd00::1")
		},
		"who prefers a pair keeps the address whose range stays": func(s *story) {
			s.pool("p", "10.0.0.0/29 fd00::/126").service("gone").service("a", prefer).service("b", prefer).service("c", prefer).remove("gone")
			s.expect("a=10.0.0.1,fd00::", "b=10.0.0.2,fd00::1", "c=10.0.0.3,fd00::2")
			s.pool("p", "10.0.0.0/29").expect("a=10.0.0.1", "b=10.0.0.2", "c=10.0.0.3").refused("b", reason.OneFamilyOnly, "IPv6")
			s.pool("p", "10.0.0.0/29 fd01::/126").expect("a=10.0.0.1,fd01::", "b=10.0.0.2,fd01::1", "c=10.0.0.3,fd01::2")
			s.pool("p", "fd01::/126").expect("a=fd01::", "b=fd01::1", "c=fd01::2")
		},
		"both from one pool, even where two pools have one each": func(s *story) {
			s.pool("a4", "10.0.0.0/30").pool("b6", "fd00::/126").pool("c", "10.1.0.0/30 fd01::/126").service("a", require).service("b", prefer)
			s.expect("a=10.1.0.0,fd01::", "b=10.1.0.1,fd01::1")
		},
		"dual stack required where no pool has both": func(s *story) {
			s.pool("a4", "10.0.0.0/30").pool("b6", "fd00::/126").service("a", require).refused("a", reason.FamilyNotInPool, `"a4"`)
		},
		"dual stack preferred where no pool has both: the first family of the Service": func(s *story) {
			s.pool("a4", "10.0.0.0/30").pool("b6", "fd00::/126").service("a", prefer).service("b", prefer6).expect("a=10.0.0.0", "b=fd00::")
			s.refused("a", reason.OneFamilyOnly, `pool "a4"`, "IPv6").refused("b", reason.OneFamilyOnly, "IPv4")
		},
		"dual stack required on one cluster IP": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126").service("a", families(service.RequireDualStack, "10.96.0.1")).refused("a", reason.NotEnoughClusterIPs, "10.96.0.1")
		},
		"dual stack preferred on one cluster IP is single stack": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126").service("a", families(service.PreferDualStack, "10.96.0.1")).service("a").service("a")
			s.expect("a=10.0.0.0").refused("a", reason.Assigned)
		},
		"no cluster IP": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", func(svc *service.Service) { svc.ClusterIPs = nil }).refused("a", reason.NoClusterIP)
		},
		"the pool gains the other family: the first address stays": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", prefer).expect("a=10.0.0.0").pool("p", "10.0.0.0/30 fd00::/126").expect("a=10.0.0.0,fd00::").refused("a", reason.Assigned)
		},
		"another dual pool appears: the Service stays where it is": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", prefer).pool("q", "10.1.0.0/30 fd01::/126").expect("a=10.0.0.0")
		},
		"a dual pool loses a family: the Service moves to another dual pool": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126").pool("q", "10.1.0.0/30 fd01::/126").service("a", prefer).expect("a=10.0.0.0,fd00::")
			s.pool("p", "10.0.0.0/30").expect("a=10.1.0.0,fd01::")
		},
		"prefer, require, and prefer again on a pool of one family": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", prefer).expect("a=10.0.0.0").service("a", require).expect("a=").refused("a", reason.FamilyNotInPool)
			s.service("a", prefer).expect("a=10.0.0.0")
		},
		"one family becomes two and one again without a move": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126").service("x").service("a").service("a", require).expect("a=10.0.0.1,fd00::")
			s.service("a", onlyIPv6).expect("a=fd00::")
		},
		"a second address comes free for who prefers two, but first for who has none": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/128").service("six", onlyIPv6).service("a", prefer).service("b", onlyIPv6)
			s.expect("six=fd00::", "a=10.0.0.0", "b=").remove("six").expect("a=10.0.0.0", "b=fd00::").remove("b").expect("a=10.0.0.0,fd00::")
		},
	})
}

func TestRequests(t *testing.T) {
	run(t, map[string]func(*story){
		"the order of the request is kept for good": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126").service("a", require, ask("fd00::2", "10.0.0.2")).service("a").service("a").expect("a=fd00::2,10.0.0.2")
		},
		"another request replaces the address": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a").service("a", ask("10.0.0.3")).expect("a=10.0.0.3").service("a", ask()).expect("a=10.0.0.3")
		},
		"another pool replaces the address": func(s *story) {
			s.pool("p", "10.0.0.0/30").pool("q", "10.1.0.0/30").service("a").service("a", fromPool("q")).expect("a=10.1.0.0").service("a", fromPool("")).expect("a=10.1.0.0")
		},
		"a request that nobody understands leaves what is there": func(s *story) {
			garbage := func(svc *service.Service) {
				svc.Problems = []service.Problem{{Field: "metallb.io/loadBalancerIPs", Reason: reason.InvalidRequest, Message: "no address"}}
			}
			s.pool("p", "10.0.0.0/30").service("a").service("a", garbage).expect("a=10.0.0.0").refused("a", reason.InvalidRequest, "metallb.io/loadBalancerIPs")
			s.service("b", garbage).expect("b=").refused("b", reason.InvalidRequest)
		},
		"address and pool contradict each other": func(s *story) {
			s.pool("p", "10.0.0.0/30").pool("q", "10.1.0.0/30").service("a", ask("10.1.0.1"), fromPool("p")).refused("a", reason.PoolMismatch, `"p"`, `"q"`, "10.1.0.1")
		},
		"two addresses of two pools": func(s *story) {
			s.pool("p", "10.0.0.0/30").pool("q", "fd00::/126").service("a", require, ask("10.0.0.1", "fd00::1")).refused("a", reason.PoolMismatch, "not in one pool")
		},
		"one address for two families": func(s *story) {
			s.pool("p", "10.0.0.0/30 fd00::/126").service("a", prefer, ask("10.0.0.1")).refused("a", reason.FamilyMismatch, "fd96::1")
		},
		"an address outside, a pool unknown, no pool at all": func(s *story) {
			s.service("z").refused("z", reason.NoPools)
			s.pool("p", "10.0.0.0/30").service("a", ask("192.0.2.1")).refused("a", reason.AddressNotInPool, "192.0.2.1")
			s.service("b", fromPool("nowhere")).refused("b", reason.PoolUnknown, `"nowhere"`).pool("nowhere", "10.5.0.0/30").expect("b=10.5.0.0")
		},
		"who asks for an address waits for it, the oldest first": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", ask("10.0.0.1")).service("b", ask("10.0.0.1")).service("c", ask("10.0.0.1"))
			s.refused("b", reason.AddressInUse, "apps/a").remove("a").expect("b=10.0.0.1", "c=").refused("c", reason.AddressInUse, "apps/b")
		},
	})
}

func TestSharing(t *testing.T) {
	run(t, map[string]func(*story){
		"same key, other ports": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", share("k", "", "80/TCP")).service("b", share("k", "", "443/TCP")).service("c", share("k", "", "80/UDP"))
			s.expect("a=10.0.0.0", "b=10.0.0.0", "c=10.0.0.0")
		},
		"a port that is taken leads to the next address": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", share("k", "", "80/TCP")).service("b", share("k", "", "80/TCP")).service("c", share("k", "", "443/TCP", "80/TCP")).service("d", share("k", "", "443/TCP"))
			s.expect("a=10.0.0.0", "b=10.0.0.1", "c=10.0.0.2", "d=10.0.0.0")
		},
		"a lower free address wins over one with the same key": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("x").service("a", share("k", "", "80/TCP")).remove("x").service("b", share("k", "", "443/TCP"))
			s.expect("a=10.0.0.1", "b=10.0.0.0")
		},
		"no key, another key, other backends, a port": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", share("k", "", "80/TCP"))
			s.service("b", ask("10.0.0.0"), share("", "", "81/TCP")).refused("b", reason.AddressInUse, "apps/a", "this Service carries no sharing key")
			s.service("c", ask("10.0.0.0"), share("l", "", "81/TCP")).refused("c", reason.SharingConflict, `"k"`, `"l"`)
			s.service("d", ask("10.0.0.0"), share("k", "app=web", "81/TCP")).refused("d", reason.SharingConflict, "externalTrafficPolicy")
			s.service("e", ask("10.0.0.0"), share("k", "", "80/TCP")).refused("e", reason.PortConflict, "80/TCP", "apps/a")
			s.service("f", ask("10.0.0.0"), share("k", "", "81/TCP")).expect("f=10.0.0.0")
		},
		"the conditions change, step by step": func(s *story) {
			s.pool("p", "10.0.0.0/32").service("a", share("k", "", "80/TCP")).service("b", share("k", "", "81/TCP")).expect("a=10.0.0.0", "b=10.0.0.0")
			s.service("b", share("k", "app=b", "81/TCP")).expect("a=10.0.0.0", "b=")
			s.service("a", share("k", "app=b", "80/TCP")).expect("a=10.0.0.0", "b=10.0.0.0")
			s.service("a", share("k", "app=a", "80/TCP")).expect("a=", "b=10.0.0.0")
			s.service("b", share("k", "app=a", "81/TCP")).expect("a=10.0.0.0", "b=10.0.0.0")
		},
		"a lone holder changes its key in place": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", share("k", "", "80/TCP")).service("a", share("l", "", "80/TCP")).expect("a=10.0.0.0")
			s.service("b", share("l", "", "81/TCP")).expect("b=10.0.0.0")
		},
		"a port that comes free lets a waiting sharer in": func(s *story) {
			s.pool("p", "10.0.0.0/32").service("a", share("k", "", "80/TCP")).service("b", share("k", "", "81/TCP")).service("c", share("k", "", "81/TCP")).expect("c=")
			s.service("b", share("k", "", "82/TCP")).expect("b=10.0.0.0", "c=10.0.0.0")
		},
		"a shared address counts once": func(s *story) {
			s.pool("p", "10.0.0.0/30").service("a", share("k", "", "80/TCP")).service("b", share("k", "", "81/TCP"))
			if u := s.a.Usage()[0]; u.AssignedIPv4 != 1 || u.AvailableIPv4 != 3 || u.Services != 2 {
				s.t.Errorf("%+v", u)
			}
		},
	})
}

func TestPoolsThatChange(t *testing.T) {
	run(t, map[string]func(*story){
		"a deleted pool empties its Services into another": func(s *story) {
			s.pool("a", "10.0.0.0/30").pool("b", "10.1.0.0/30").service("x").expect("x=10.0.0.0").without("a").expect("x=10.1.0.0").without("b").expect("x=").refused("x", reason.NoPools)
		},
		"a range that moves to another pool takes its Services along": func(s *story) {
			s.pool("a", "10.0.0.0/30").service("x")
			s.pools = map[string]*config.Pool{}
			s.pool("b", "10.0.0.0/30").expect("x=10.0.0.0")
			if d := s.has["x"]; d.Pool != "b" || d.Reason != reason.Assigned || d.Lost != nil {
				s.t.Errorf("%+v", d)
			}
		},
		"a pool that shrinks moves only who stands outside": func(s *story) {
			s.pool("a", "10.0.0.0/30").service("x").service("y").service("z").pool("a", "10.0.0.0/31").expect("x=10.0.0.0", "y=10.0.0.1", "z=").refused("z", reason.PoolExhausted)
			if lost := s.has["z"].Lost; lost == nil || lost.Reason != reason.AddressNotInPool {
				s.t.Errorf("lost %+v", lost)
			}
		},
		"a pool that can be read in part keeps who stands in the other part": func(s *story) {
			s.pool("a", "10.0.0.0/31 10.2.0.0/31").service("x").service("y", ask("10.2.0.1")).pool("a", "10.0.0.0/31", incomplete)
			s.expect("x=10.0.0.0", "y=10.2.0.1").refused("y", reason.PoolMissing, `"a"`)
			s.service("z", ask("10.2.0.1")).refused("z", reason.AddressNotInPool)
			s.pool("a", "10.0.0.0/31").expect("x=10.0.0.0", "y=")
		},
	})
}

func TestAfterAStart(t *testing.T) {
	stored := func(name string, age int, pool string, ips ...string) *service.Service {
		svc := &service.Service{
			Key: service.Key{Namespace: "apps", Name: name}, UID: name, Created: time.Unix(int64(age), 0), LoadBalancer: true,
			ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Pool: pool,
		}
		for _, ip := range ips {
			svc.Addresses = append(svc.Addresses, netip.MustParseAddr(ip))
		}
		return svc
	}
	t.Run("who holds keeps, who asks by name is next, then the others by age", func(t *testing.T) {
		s := tell(t).pool("p", "10.0.0.0/30")
		asks := stored("asks", 9, "")
		asks.WantAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.0")}
		s.take(s.a.Adopt([]*service.Service{stored("young", 5, ""), stored("old", 1, ""), asks, stored("holds", 8, "p", "10.0.0.1")}))
		s.expect("holds=10.0.0.1", "asks=10.0.0.0", "old=10.0.0.2", "young=10.0.0.3")
	})
	t.Run("of two that say the same address the older has it", func(t *testing.T) {
		s := tell(t).pool("p", "10.0.0.0/30")
		s.take(s.a.Adopt([]*service.Service{stored("b", 2, "p", "10.0.0.3"), stored("a", 1, "p", "10.0.0.3")}))
		s.expect("a=10.0.0.3", "b=10.0.0.0")
		if lost := s.has["b"].Lost; lost == nil || lost.Reason != reason.AddressInUse {
			t.Errorf("lost %+v", lost)
		}
	})
	t.Run("no pool yet: everybody keeps what they have, and nobody else gets it", func(t *testing.T) {
		s := tell(t)
		s.take(s.a.Adopt([]*service.Service{stored("a", 1, "p", "10.0.0.0"), stored("b", 2, "")}))
		s.expect("a=10.0.0.0").refused("a", reason.PoolMissing, `"p"`).refused("b", reason.NoPools)
		s.pool("p", "10.0.0.0/30").expect("a=10.0.0.0", "b=10.0.0.1").refused("a", reason.Assigned)
		s.without("p").expect("a=", "b=")
	})
	t.Run("the grace ends", func(t *testing.T) {
		s := tell(t).pool("q", "10.1.0.0/30")
		s.take(s.a.Adopt([]*service.Service{stored("a", 1, "p", "10.0.0.0")}))
		s.expect("a=10.0.0.0")
		s.take(s.a.EndGrace())
		s.expect("a=10.1.0.0")
	})
	t.Run("the pool is known as it was before it grew", func(t *testing.T) {
		s := tell(t).pool("p", "10.0.0.0/30")
		s.take(s.a.Adopt([]*service.Service{stored("a", 1, "p", "10.9.0.0")}))
		s.expect("a=10.9.0.0").refused("a", reason.PoolMissing, `"p"`)
		s.pool("p", "10.0.0.0/30 10.9.0.0/30").expect("a=10.9.0.0").refused("a", reason.Assigned)
		s.pool("p", "10.0.0.0/30").expect("a=10.0.0.0")
	})
	t.Run("an address that left its pool is taken when the grace ends", func(t *testing.T) {
		s := tell(t).pool("p", "10.0.0.0/30")
		s.take(s.a.Adopt([]*service.Service{stored("a", 1, "p", "10.9.0.0")}))
		s.take(s.a.EndGrace())
		s.expect("a=10.0.0.0")
	})
	t.Run("the namespace is known without the label that the pool asks for", func(t *testing.T) {
		for labelled, want := range map[bool]string{true: "a=10.0.0.0", false: "a="} {
			s := tell(t).pool("p", "10.0.0.0/30", pinned(1, toTeam("red")))
			s.take(s.a.Adopt([]*service.Service{stored("a", 1, "p", "10.0.0.0")}))
			s.expect("a=10.0.0.0").refused("a", reason.PoolMissing, "admit")
			s.service("b", ask("10.0.0.0"))
			if labelled {
				s.take(s.a.SetNamespace("apps", labels.Set{"team": "red"}))
				s.refused("a", reason.Assigned)
			}
			s.take(s.a.EndGrace())
			s.expect(want)
		}
	})
	t.Run("a Service of the same name is another Service", func(t *testing.T) {
		s := tell(t).pool("p", "10.0.0.0/30").service("a").service("b")
		reborn := stored("a", 50, "")
		reborn.UID = "other"
		s.take(s.a.Assign(reborn))
		s.expect("a=10.0.0.0", "b=10.0.0.1")
	})
}

// What happens to one Service is decided for those whom it concerns, however many
// others there are.
func TestEventsDecideOnlyWhatTheyConcern(t *testing.T) {
	const many = 500
	s := tell(t).pool("p", "10.0.0.0/23")
	s.a.EndGrace()
	for i := range many {
		s.service(fmt.Sprint("web-", i))
	}
	s.service("shares", share("k", "", "80/TCP")).service("joins", share("k", "", "81/TCP"))
	for name, tt := range map[string]struct {
		event func() []ipam.Decision
		want  []string
	}{
		"a Service is deleted":       {func() []ipam.Decision { return s.a.Release(s.services["web-7"].Key) }, nil},
		"a Service says the same":    {func() []ipam.Decision { return s.a.Assign(s.services["web-8"]) }, []string{"web-8"}},
		"a sharing key changes":      {func() []ipam.Decision { return s.a.Assign(changed(s, "joins", share("l", "", "81/TCP"))) }, []string{"joins"}},
		"the pools are told again":   {func() []ipam.Decision { return s.a.SetPools([]*config.Pool{s.pools["p"]}) }, nil},
		"a namespace gets a label":   {func() []ipam.Decision { return s.a.SetNamespace("apps", labels.Set{"a": "b"}) }, nil},
		"a pool appears":             {func() []ipam.Decision { return s.a.SetPools([]*config.Pool{s.pools["p"], {Name: "q"}}) }, nil},
		"an unused address is asked": {func() []ipam.Decision { return s.a.Assign(changed(s, "web-9", ask("10.0.1.255"))) }, []string{"web-9"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, d := range tt.event() {
				got = append(got, d.Service.Key.Name)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("decided (-want +got):\n%s", diff)
			}
		})
	}
}

// changed is a Service as it would be seen after a change.
func changed(s *story, name string, change func(*service.Service)) *service.Service {
	next := *s.services[name]
	next.Addresses, next.Pool = s.has[name].Addresses, s.has[name].Pool
	change(&next)
	return &next
}
