//go:build netns

package l2

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/desired"
)

func TestNetnsInterfaceDownAndUp(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip4, vip6))
	n.awaitAnnounced(t, vip4, "eth0")
	n.awaitAnnounced(t, vip6, "eth0")
	mac := n.node.MAC(t, "eth0").String()
	for range 3 {
		n.node.IP(t, "link set eth0 down")
		netns.Wait(t, 5*time.Second, "the failure to be observed", func() bool {
			o, _ := n.a.ObservedAddress(vip6)
			return len(o.Interfaces) == 0 && len(o.Failures) == 1
		})
		bursts := n.counter(t, "metallb_layer2_gratuitous_sent", vip6)
		n.node.IP(t, "link set eth0 up")
		n.awaitLinks(t, "eth0")
		netns.Wait(t, 5*time.Second, "the group to be joined again", func() bool { return inGroup(t, "eth0", vip6) })
		n.wantAnswer(t, vip4, "c0", mac)
		n.wantAnswer(t, vip6, "c0", mac)
		netns.Wait(t, 5*time.Second, "a burst", func() bool { return n.counter(t, "metallb_layer2_gratuitous_sent", vip6) > bursts })
	}
}

func TestNetnsCarrierLostAndBack(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip4, vip6))
	n.awaitAnnounced(t, vip6, "eth0")
	n.client.IP(t, "link set c0 down")
	netns.Wait(t, 5*time.Second, "the failure to be observed", func() bool {
		o, _ := n.a.ObservedAddress(vip4)
		return len(o.Interfaces) == 0
	})
	bursts := n.counter(t, "metallb_layer2_gratuitous_sent", vip4)
	n.client.IP(t, "link set c0 up")
	n.awaitLinks(t, "eth0")
	netns.Wait(t, 5*time.Second, "a burst", func() bool { return n.counter(t, "metallb_layer2_gratuitous_sent", vip4) > bursts })
	n.wantAnswer(t, vip4, "c0", n.node.MAC(t, "eth0").String())
	n.wantAnswer(t, vip6, "c0", n.node.MAC(t, "eth0").String())
}

func TestNetnsLateAndRecreatedInterface(t *testing.T) {
	n := newLAN(t)
	n.a.Set(desired.L2{vip4: {Interfaces: []string{"late0"}}, vip6: {Interfaces: []string{"late0"}}})
	o, _ := n.a.ObservedAddress(vip4)
	if len(o.Failures) != 1 || o.Failures[0].Interface != "late0" {
		t.Errorf("before the interface exists: observed %+v, want its absence", o)
	}
	for i := range 2 {
		t.Run(fmt.Sprintf("time %d", i+1), func(t *testing.T) {
			n.cable(t, "late0", "cl0")
			n.client.IP(t, "addr add 10.0.2.7/24 dev cl0")
			n.awaitLinks(t, "late0")
			netns.Wait(t, 5*time.Second, "the group to be joined", func() bool { return inGroup(t, "late0", vip6) })
			n.awaitAnnounced(t, vip6, "late0")
			n.wantAnswer(t, vip4, "cl0", n.node.MAC(t, "late0").String())
			n.wantAnswer(t, vip6, "cl0", n.node.MAC(t, "late0").String())
			n.wantAnswer(t, vip4, "c0", "")
		})
	}
}

func TestNetnsNewEthernetAddress(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip4, vip6))
	n.awaitAnnounced(t, vip4, "eth0")
	n.awaitAnnounced(t, vip6, "eth0")
	const next = "02:11:22:33:44:55"
	c := n.capture(t, "c0", "arp.src.proto_ipv4=="+vip4.String(), "eth.src", "arp.src.hw_mac")
	n.node.IP(t, "link set eth0 address "+next)
	netns.Wait(t, 10*time.Second, "a burst with the new address", func() bool {
		for _, line := range c.lines() {
			if line == next+"|"+next {
				return true
			}
		}
		return false
	})
	n.wantAnswer(t, vip4, "c0", next)
	n.wantAnswer(t, vip6, "c0", next)
}

// IPv6 that is switched off and on takes the memberships with it.
func TestNetnsIPv6OffAndOn(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip6))
	n.awaitAnnounced(t, vip6, "eth0")
	n.node.Sysctl(t, "ipv6/conf/eth0/disable_ipv6", "1")
	netns.Wait(t, 5*time.Second, "the failure to be observed", func() bool {
		o, _ := n.a.ObservedAddress(vip6)
		return len(o.Interfaces) == 0
	})
	n.node.Sysctl(t, "ipv6/conf/eth0/disable_ipv6", "0")
	n.awaitLinks(t, "eth0")
	netns.Wait(t, 5*time.Second, "the group to be joined again", func() bool { return inGroup(t, "eth0", vip6) })
	n.wantAnswer(t, vip6, "c0", n.node.MAC(t, "eth0").String())
}

// A bridge answers for itself; its port, through which the question came, and
// a macvlan beside it do not.
func TestNetnsBridgeAndMacvlan(t *testing.T) {
	n := newLAN(t)
	n.cable(t, "port0", "cb0")
	n.client.IP(t, "addr add 10.0.3.7/24 dev cb0")
	n.node.IP(t, "link add br0 type bridge")
	t.Cleanup(func() { _, _ = n.node.Try(t, "ip", "link", "del", "br0") })
	n.node.IP(t, "link set br0 up")
	n.node.IP(t, "link set port0 master br0")
	n.node.IP(t, "link add mv0 link br0 type macvlan mode bridge")
	n.node.IP(t, "link set mv0 up")
	n.awaitLinks(t, "br0", "mv0")

	// From all interfaces, the bridge and the macvlan both answer with their
	// own addresses; named, only the one.
	for _, dev := range []string{"br0", "mv0"} {
		n.a.Set(desired.L2{vip4: {Interfaces: []string{dev}}, vip6: {Interfaces: []string{dev}}})
		n.awaitAnnounced(t, vip4, dev)
		n.awaitAnnounced(t, vip6, dev)
		c := n.capture(t, "cb0", "arp.opcode==2 and arp.src.proto_ipv4=="+vip4.String()+" and arp.dst.proto_ipv4==10.0.3.7", "eth.src")
		n.wantAnswer(t, vip4, "cb0", n.node.MAC(t, dev).String())
		n.wantAnswer(t, vip6, "cb0", n.node.MAC(t, dev).String())
		netns.Wait(t, 10*time.Second, "tshark to see the answer", func() bool { return len(c.lines()) > 0 })
		if got := len(c.lines()); got != 1 {
			t.Errorf("%d answers to one question on %s, want 1", got, dev)
		}
	}
	o, _ := n.a.ObservedAddress(vip4)
	if len(o.Failures) != 0 {
		t.Errorf("observed %+v", o)
	}
	n.a.Set(desired.L2{vip4: {Interfaces: []string{"port0"}}})
	o, _ = n.a.ObservedAddress(vip4)
	if len(o.Interfaces) != 0 || len(o.Failures) != 1 {
		t.Errorf("from a port of a bridge: observed %+v, want a failure", o)
	}
}

func TestNetnsTenThousandAddresses(t *testing.T) {
	n := newLAN(t)
	want := make(desired.L2)
	a4, a6 := netip.MustParseAddr("10.0.16.0"), netip.MustParseAddr("2001:db8::1:0")
	var some []netip.Addr
	for i := range 10_000 {
		// Every third is another node's.
		if i%3 != 2 {
			want[a4], want[a6] = desired.L2Address{}, desired.L2Address{}
			if i%2500 == 0 {
				some = append(some, a4, a6)
			}
		}
		a4, a6 = a4.Next(), a6.Next()
	}
	n.a.Set(want)
	last := some[len(some)-1]
	netns.Wait(t, 30*time.Second, "the groups of all IPv6 addresses", func() bool {
		for _, addr := range some {
			if addr.Is6() && !inGroup(t, "eth0", addr) {
				return false
			}
		}
		return true
	})
	n.awaitAnnounced(t, last, "eth0")
	mac := n.node.MAC(t, "eth0").String()
	for _, addr := range some {
		n.wantAnswer(t, addr, "c0", mac)
	}
	n.wantAnswer(t, netip.MustParseAddr("10.0.16.2"), "c0", "")
	n.wantAnswer(t, netip.MustParseAddr("10.0.200.1"), "c0", "")
	for _, addr := range some {
		if o, _ := n.a.ObservedAddress(addr); len(o.Failures) != 0 {
			t.Errorf("%s: %+v", addr, o.Failures)
		}
	}

	// One more is answered too, though the table is large.
	more := netip.MustParseAddr("10.0.250.1")
	n.a.Apply(desired.L2Change{Announce: wanted(more)})
	n.awaitAnnounced(t, more, "eth0")
	n.wantAnswer(t, more, "c0", mac)

	n.a.Set(nil)
	netns.Wait(t, 30*time.Second, "all groups to be left", func() bool { return !inGroup(t, "eth0", last) })
}
