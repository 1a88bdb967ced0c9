package l2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"golang.org/x/net/bpf"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// room is an Announcer on a fake OS, driven by hand.
type room struct {
	a   *Announcer
	k   *fakeOS
	l   *loop
	now time.Time
}

func newRoom(t testing.TB) *room {
	a, k := newTestAnnouncer(t), newFakeOS()
	return &room{a: a, k: k, l: newLoop(a, k), now: epoch}
}

// quiet lets the room finish its bursts and forgets what was sent.
func (r *room) quiet(t testing.TB) {
	r.now = pass(t, r.l, r.now, 10*time.Second)
	r.k.take(t)
}

// burstOf steps once and tells which addresses were announced from where.
func (r *room) burstOf(t testing.TB) []string {
	t.Helper()
	settle(t, r.l, r.now)
	var all []string
	for _, s := range r.k.sent {
		addr := vip4.String()
		if !strings.Contains(describe(t, s.frame), "ARP") {
			addr = vip6.String()
		}
		if !strings.Contains(describe(t, s.frame), addr) {
			t.Fatalf("unexpected frame %s", describe(t, s.frame))
		}
		all = append(all, fmt.Sprintf("%d:%x:%s", s.index, s.frame[ethSource:ethSource+6], addr))
	}
	r.k.sent = nil
	slices.Sort(all)
	return slices.Compact(all)
}

func TestWhatStartsABurst(t *testing.T) {
	eth0, eth1 := linkOf(2, "eth0", ourMAC), linkOf(3, "eth1", thirdMAC)
	down := func(l *observed.Link) { l.Carrier = false }
	from := func(index int, mac hwAddr, addr netip.Addr) string {
		return fmt.Sprintf("%d:%x:%s", index, mac[:], addr)
	}

	for name, test := range map[string]struct {
		then func(*Announcer)
		want []string
	}{
		"the same state again": {
			func(a *Announcer) {
				a.Set(wanted(vip4, vip6))
				a.Apply(desired.L2Change{Announce: wanted(vip4)})
				a.SetLinks(observed.Links{eth0, with(eth1, down)})
			}, nil,
		},
		"another address's withdrawal": {func(a *Announcer) { a.Apply(desired.L2Change{Withdraw: []netip.Addr{vip6}}) }, nil},
		"a withdrawal taken back at once is a takeover": {
			func(a *Announcer) {
				a.Apply(desired.L2Change{Withdraw: []netip.Addr{vip4}})
				a.Apply(desired.L2Change{Announce: wanted(vip4)})
			}, []string{from(2, ourMAC, vip4)},
		},
		"fewer interfaces": {
			func(a *Announcer) {
				a.Apply(desired.L2Change{Announce: desired.L2{vip4: {Interfaces: []string{"eth0"}}}})
			}, nil,
		},
		"a carrier comes": {
			func(a *Announcer) { a.SetLinks(observed.Links{eth0, eth1}) },
			[]string{from(3, thirdMAC, vip4), from(3, thirdMAC, vip6)},
		},
		"a late interface": {
			func(a *Announcer) { a.SetLinks(observed.Links{eth0, linkOf(9, "eth9", theirMAC)}) },
			[]string{from(9, theirMAC, vip4), from(9, theirMAC, vip6)},
		},
		"a new Ethernet address": {
			func(a *Announcer) { a.SetLinks(observed.Links{linkOf(2, "eth0", theirMAC)}) },
			[]string{from(2, theirMAC, vip4), from(2, theirMAC, vip6)},
		},
		"a new link-local address": {
			func(a *Announcer) {
				a.SetLinks(observed.Links{with(eth0, func(l *observed.Link) { l.LinkLocal = netip.MustParseAddr("fe80::7") }), with(eth1, down)})
			}, nil,
		},
		"another name": {
			func(a *Announcer) {
				a.SetLinks(observed.Links{with(eth0, func(l *observed.Link) { l.Name = "lan0" }), with(eth1, down)})
			}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			r.a.SetLinks(observed.Links{eth0, with(eth1, down)})
			r.a.Set(wanted(vip4, vip6))
			r.quiet(t)
			test.then(r.a)
			if diff := cmp.Diff(test.want, r.burstOf(t)); diff != "" {
				t.Errorf("announced (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLinkLocalAddressThatArrivesLate(t *testing.T) {
	r := newRoom(t)
	eth0 := linkOf(2, "eth0", ourMAC)
	r.a.SetLinks(observed.Links{with(eth0, func(l *observed.Link) { l.LinkLocal = netip.Addr{} })})
	r.a.Set(wanted(vip6))
	if got := r.burstOf(t); len(got) != 0 || len(r.k.joined) != 0 {
		t.Fatalf("without a link-local address: announced %v, joined %v", got, r.k.joined)
	}
	o, _ := r.a.ObservedAddress(vip6)
	if len(o.Interfaces) != 0 || len(o.Failures) != 1 {
		t.Errorf("observed %+v, want a failure", o)
	}
	r.a.SetLinks(observed.Links{eth0})
	if got := r.burstOf(t); len(got) != 1 || !r.k.joined[membership{2, groupOf(vip6)}] {
		t.Errorf("with one: announced %v, joined %v", got, r.k.joined)
	}
}

// reached is everything that the room left in the kernel or will do.
func (r *room) reached(t testing.TB) string {
	t.Helper()
	settle(t, r.l, r.now)
	r.now = r.now.Add(2 * filterLinger)
	settle(t, r.l, r.now)
	var b strings.Builder
	for _, p := range []protocol{protoARP, protoNDP} {
		fmt.Fprintf(&b, "filter %s %v\n", p, r.k.filters[p])
	}
	fmt.Fprintf(&b, "joined %v\n", sorted(r.k.joined))
	var targets []string
	for tg := range r.l.burst.items {
		targets = append(targets, fmt.Sprint(tg))
	}
	slices.Sort(targets)
	fmt.Fprintf(&b, "announcing %v\n", targets)
	var answers []string
	for _, addr := range testAddrs {
		for index := range 6 {
			p := protocolOf(addr)
			if reply, _, v := r.a.decide(p, index, asking(t, addr), make([]byte, 0, 128)); v == answered {
				answers = append(answers, fmt.Sprintf("%d %s", index, describe(t, reply)))
			}
		}
	}
	fmt.Fprintf(&b, "answers %s\n", strings.Join(answers, "\n  "))
	fmt.Fprintf(&b, "observed %v\n", r.a.Observed())
	return b.String()
}

func sorted(joined map[membership]bool) []string {
	var all []string
	for m := range joined {
		all = append(all, fmt.Sprintf("%d/%06x", m.index, m.group))
	}
	slices.Sort(all)
	return all
}

// testAddrs share solicited-node groups in part.
var testAddrs = []netip.Addr{
	v4(0x0a000001), v4(0x0a000002), v4(0x0a000009), v4(0x0a010001),
	v6(0, 1), v6(0, 2), v6(5, 1), v6(0, 0x01000001),
}

func drawWanted(t *rapid.T) desired.L2 {
	want := make(desired.L2)
	for _, addr := range testAddrs {
		switch rapid.IntRange(0, 3).Draw(t, addr.String()) {
		case 1:
			want[addr] = desired.L2Address{}
		case 2:
			want[addr] = desired.L2Address{Interfaces: []string{"eth0", "eth2"}}
		case 3:
			want[addr] = desired.L2Address{Interfaces: []string{}}
		}
	}
	return want
}

func drawLinks(t *rapid.T) observed.Links {
	var links observed.Links
	for i, name := range []string{"eth0", "eth1", "eth2"} {
		l := linkOf(i+2, name, hwAddr{2, 0, 0, 0, byte(rapid.IntRange(0, 1).Draw(t, name+" MAC")), byte(i)})
		switch rapid.IntRange(0, 6).Draw(t, name) {
		case 0:
			continue
		case 1:
			l.Up, l.Carrier = false, false
		case 2:
			l.Carrier = false
		case 3:
			l.LinkLocal = netip.Addr{}
		case 4:
			l.Broadcast = false
		}
		links = append(links, l)
	}
	return links
}

// The law of the room: any history that ends in the same inputs ends in the
// same state as a fresh start with them.
func TestPathIndependence(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		old := newRoom(t)
		want, links := desired.L2{}, observed.Links(nil)
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				want = drawWanted(rt)
				old.a.Set(want)
			case 1, 2:
				change := desired.L2Change{Announce: desired.L2{}}
				next := make(desired.L2)
				for a, v := range want {
					next[a] = v
				}
				for addr, v := range drawWanted(rt) {
					if rapid.Bool().Draw(rt, "announce") {
						change.Announce[addr], next[addr] = v, v
					}
				}
				for _, addr := range testAddrs {
					if _, ok := change.Announce[addr]; !ok && rapid.Bool().Draw(rt, "withdraw") {
						change.Withdraw = append(change.Withdraw, addr)
						delete(next, addr)
					}
				}
				want = next
				old.a.Apply(change)
				if rapid.Bool().Draw(rt, "twice") {
					old.a.Apply(change)
				}
			case 3:
				links = drawLinks(rt)
				old.a.SetLinks(links)
				present := make(map[int]bool)
				for _, l := range links {
					present[l.Index] = true
				}
				for m := range old.k.joined {
					if !present[m.index] {
						delete(old.k.joined, m) // as the kernel does
					}
				}
			case 4:
				old.k.absent[rapid.IntRange(2, 4).Draw(rt, "absent")] = true
			case 5:
				clear(old.k.absent)
			}
			if rapid.Bool().Draw(rt, "step") {
				old.now = old.now.Add(time.Duration(rapid.IntRange(0, 5000).Draw(rt, "ms")) * time.Millisecond)
				old.l.step(old.now)
			}
		}
		clear(old.k.absent)
		old.now = pass(t, old.l, old.now, 2*retryMost)

		fresh := newRoom(t)
		fresh.a.SetLinks(links)
		fresh.a.Set(want)
		if diff := cmp.Diff(fresh.reached(t), old.reached(t)); diff != "" {
			rt.Fatalf("after a history (-fresh start +history):\n%s", diff)
		}
	})
}

func TestGroupsSurviveTheInterfacesDownAndUp(t *testing.T) {
	r := newRoom(t)
	eth0 := linkOf(2, "eth0", ourMAC)
	r.a.SetLinks(observed.Links{eth0})
	r.a.Set(wanted(vip6))
	r.quiet(t)
	r.a.SetLinks(observed.Links{with(eth0, func(l *observed.Link) { l.Up, l.Carrier, l.LinkLocal = false, false, netip.Addr{} })})
	settle(t, r.l, r.now)
	if len(r.k.joined) != 0 {
		t.Errorf("down: still joined %v", sorted(r.k.joined))
	}
	r.a.SetLinks(observed.Links{eth0})
	settle(t, r.l, r.now)
	if !r.k.joined[membership{2, groupOf(vip6)}] {
		t.Error("up again: not joined")
	}
}

func TestMembershipsThatTheKernelLostAreJoinedAgain(t *testing.T) {
	r := newRoom(t)
	r.a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	r.a.Set(wanted(vip6))
	r.quiet(t)
	clear(r.k.joined)
	r.now = pass(t, r.l, r.now, 2*verifyEvery)
	if !r.k.joined[membership{2, groupOf(vip6)}] {
		t.Error("not joined again")
	}
}

func TestFailedJoinIsObservedAndRetried(t *testing.T) {
	r := newRoom(t)
	r.k.absent[2] = true
	r.a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	r.a.Set(wanted(vip6))
	settle(t, r.l, r.now)
	o, _ := r.a.ObservedAddress(vip6)
	if len(o.Interfaces) != 0 || len(o.Failures) != 1 || !strings.Contains(o.Failures[0].Message, "solicited-node group") {
		t.Errorf("observed %+v, want the failed join", o)
	}
	delete(r.k.absent, 2)
	r.now = pass(t, r.l, r.now, 2*retryFirst)
	o, _ = r.a.ObservedAddress(vip6)
	if diff := cmp.Diff(observed.L2Address{Interfaces: []string{"eth0"}}, o); diff != "" {
		t.Errorf("observed after the retry (-want +got):\n%s", diff)
	}
}

// An interface that refuses whatever is asked of it keeps no other from serving.
func TestFailingInterfaceHarmsOnlyItself(t *testing.T) {
	r := newRoom(t)
	r.k.absent[2] = true
	r.a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC), linkOf(3, "eth1", thirdMAC)})
	r.a.Set(wanted(vip4, vip6))
	want := []string{fmt.Sprintf("3:%x:%s", thirdMAC[:], vip4), fmt.Sprintf("3:%x:%s", thirdMAC[:], vip6)}
	if diff := cmp.Diff(want, r.burstOf(t)); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
	if !r.k.joined[membership{3, groupOf(vip6)}] {
		t.Error("eth1 did not join the solicited-node group")
	}
	if o, _ := r.a.ObservedAddress(vip6); !slices.Equal(o.Interfaces, []string{"eth1"}) || len(o.Failures) != 1 || o.Failures[0].Interface != "eth0" {
		t.Errorf("observed %+v, want eth1 announcing and eth0 failing", o)
	}
	frame := arpFrameOf(t, broadcast, theirMAC, arp.OperationRequest, theirMAC, "10.0.0.7", hwAddr{}, vip4.String())
	if _, _, verdict := r.a.decide(protoARP, 3, frame, make([]byte, 0, 128)); verdict != answered {
		t.Errorf("a request on eth1: verdict %d, want an answer", verdict)
	}
}

func TestFilterIsRenewedAtOnceForANewAddress(t *testing.T) {
	r := newRoom(t)
	r.a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	r.a.Set(wanted(vip4))
	r.l.step(r.now)
	if !r.l.filters[protoARP].current.covers(vip4) {
		t.Fatal("the first step left the address outside the filter")
	}
	first := r.k.filters[protoARP]
	other := mustAddr(t, "10.9.9.9")
	r.a.Apply(desired.L2Change{Announce: wanted(other)})
	next := r.l.step(r.now)
	if next.Sub(r.now) > filterPause {
		t.Errorf("the next filter is planned in %s, want within %s", next.Sub(r.now), filterPause)
	}
	settle(t, r.l, r.now.Add(filterPause))
	if !r.l.filters[protoARP].current.covers(other) || slices.Equal(first, r.k.filters[protoARP]) {
		t.Error("the new address is outside the filter")
	}
}

func TestFilterAdaptsToTheKernelsMemory(t *testing.T) {
	r := newRoom(t)
	r.k.room = 600
	r.a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	want := make(desired.L2)
	for i := range uint32(2000) {
		want[v4(0x0a000000+3*i)] = desired.L2Address{}
	}
	r.a.Set(want)
	settle(t, r.l, r.now)
	if n := len(r.k.filters[protoARP]); n == 0 || n > r.k.room {
		t.Fatalf("the filter has %d instructions, want some and at most %d", n, r.k.room)
	}
	for addr := range want {
		if !r.l.filters[protoARP].current.covers(addr) {
			t.Fatalf("%s is outside the coarser filter", addr)
		}
	}
}

// failingFilters is an OS that takes no filters.
type failingFilters struct {
	*fakeOS
	attempts int
}

func (k *failingFilters) Filter(protocol, []bpf.Instruction) error {
	k.attempts++
	return errors.New("no filters today")
}

func TestFailingFilterIsRetriedSlowly(t *testing.T) {
	a, k := newTestAnnouncer(t), &failingFilters{fakeOS: newFakeOS()}
	l := newLoop(a, k)
	a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	a.Set(wanted(vip4))
	pass(t, l, epoch, 10*time.Second)
	if k.attempts < 5 || k.attempts > 15 {
		t.Errorf("%d attempts in ten seconds, want about ten", k.attempts)
	}
}

func TestObserved(t *testing.T) {
	links := observed.Links{
		linkOf(2, "eth0", ourMAC),
		with(linkOf(3, "eth1", thirdMAC), func(l *observed.Link) { l.Carrier = false }),
		with(linkOf(4, "eth2", theirMAC), func(l *observed.Link) { l.Broadcast = false }),
	}
	for name, test := range map[string]struct {
		addr  netip.Addr
		names []string
		links observed.Links
		want  observed.L2Address
	}{
		"all interfaces means those that can": {vip4, nil, links, observed.L2Address{Interfaces: []string{"eth0"}}},
		"each named one that cannot says why": {
			vip4, []string{"eth0", "eth1", "eth2", "eth7"}, links,
			observed.L2Address{Interfaces: []string{"eth0"}, Failures: []observed.L2Failure{
				{Interface: "eth1", Message: "The interface has no carrier."},
				{Interface: "eth2", Message: "The interface cannot broadcast, so it cannot carry ARP."},
				{Interface: "eth7", Message: "The interface does not exist or must not announce."},
			}},
		},
		"IPv6 does not need broadcasts": {vip6, []string{"eth2"}, links, observed.L2Address{Interfaces: []string{"eth2"}}},
		"no interface at all": {
			vip4, nil, nil,
			observed.L2Address{Failures: []observed.L2Failure{{Message: "The node has no interface that can announce the address."}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t)
			r.a.SetLinks(test.links)
			r.a.Set(desired.L2{test.addr: {Interfaces: test.names}})
			settle(t, r.l, r.now)
			if diff := cmp.Diff(observed.L2{test.addr: test.want}, r.a.Observed()); diff != "" {
				// netip.Addr keys compare by ==, which cmp uses for maps.
				t.Errorf("observed (-want +got):\n%s", diff)
			}
		})
	}
	if _, ok := newTestAnnouncer(t).ObservedAddress(vip4); ok {
		t.Error("an address that is not wanted is observed")
	}
}

func TestParseIGMP6(t *testing.T) {
	for name, test := range map[string]struct {
		line string
		want membership
		ok   bool
	}{
		"a solicited-node group": {"2    eth0            ff0200000000000000000001ff000100     1 00000004 0", membership{2, 0x100}, true},
		"all nodes":              {"2    eth0            ff020000000000000000000000000001     1 0000000C 0", membership{}, false},
		"an empty line":          {"", membership{}, false},
		"a cut line":             {"2 eth0 ff0200000000000000000001ff", membership{}, false},
		"a word for an index":    {"x eth0 ff0200000000000000000001ff000100 1", membership{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := parseIGMP6(test.line); got != test.want || ok != test.ok {
				t.Errorf("got %v %v, want %v %v", got, ok, test.want, test.ok)
			}
		})
	}
}
