//go:build netns

package l2

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"

	"github.com/heraldlb/herald/internal/testutil/netns"
	"github.com/heraldlb/herald/speaker/desired"
)

func TestNetnsAnswersFromTheRightInterfaceOnly(t *testing.T) {
	n := newLAN(t)
	n.cable(t, "eth1", "c1")
	n.client.IP(t, "addr add 10.0.1.7/24 dev c1")
	n.awaitLinks(t, "eth1")
	limited := desired.L2Address{Interfaces: []string{"eth0"}}
	n.a.Set(desired.L2{vip4: limited, vip6: limited})
	n.awaitAnnounced(t, vip4, "eth0")
	n.awaitAnnounced(t, vip6, "eth0")
	// ndisc6 takes an unsolicited advertisement, also one heard on another
	// interface, for an answer.
	n.awaitQuiet(t, vip6)
	mac := n.node.MAC(t, "eth0").String()

	for _, addr := range []netip.Addr{vip4, vip6} {
		n.wantAnswer(t, addr, "c0", mac)
		n.wantAnswer(t, addr, "c1", "")
		n.wantAnswer(t, addr.Next(), "c0", "")
	}
	if got := n.arping(t, vip4, "c0", "-t", mac); got != mac {
		t.Errorf("a unicast ARP request: answer %q, want %q", got, mac)
	}
	if got := n.arping(t, vip4, "c0", "-0"); got != mac {
		t.Errorf("an ARP probe: answer %q, want %q", got, mac)
	}

	n.a.Apply(desired.L2Change{Withdraw: []netip.Addr{vip4, vip6}})
	n.wantAnswer(t, vip4, "c0", "")
	n.wantAnswer(t, vip6, "c0", "")
	if inGroup(t, "eth0", vip6) {
		t.Error("the solicited-node group is still joined after the withdrawal")
	}
	n.a.Set(desired.L2{vip4: {}, vip6: {}})
	n.awaitAnnounced(t, vip4, "eth0", "eth1")
	n.awaitAnnounced(t, vip6, "eth0", "eth1")
	n.awaitQuiet(t, vip6)
	n.wantAnswer(t, vip4, "c1", n.node.MAC(t, "eth1").String())
	n.wantAnswer(t, vip6, "c1", n.node.MAC(t, "eth1").String())
}

// The client's own kernel asks: it goes on using a neighbour only if its
// unicast probes are confirmed.
func TestNetnsNeighbourUnreachabilityDetection(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip4, vip6))
	n.awaitAnnounced(t, vip4, "eth0")
	n.awaitAnnounced(t, vip6, "eth0")
	mac := n.node.MAC(t, "eth0").String()
	for _, addr := range []netip.Addr{vip4, vip6} {
		n.client.IP(t, fmt.Sprintf("neigh replace %s lladdr %s dev c0 nud probe", addr, mac))
		netns.Wait(t, 10*time.Second, "the probe of "+addr.String()+" to be confirmed", func() bool {
			state := n.client.IP(t, fmt.Sprintf("neigh show %s dev c0", addr))
			if strings.Contains(state, "FAILED") {
				t.Fatalf("the client's kernel gave the neighbour up: %s", state)
			}
			return strings.Contains(state, mac) && strings.Contains(state, "REACHABLE")
		})
	}
}

func TestNetnsDuplicateAddressDetection(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip6))
	n.awaitAnnounced(t, vip6, "eth0")
	n.client.Sysctl(t, "ipv6/conf/c0/accept_dad", "1")
	n.client.IP(t, fmt.Sprintf("addr add %s/64 dev c0", vip6))
	netns.Wait(t, 10*time.Second, "the client's kernel to see that the address is taken", func() bool {
		return strings.Contains(n.client.IP(t, "-6 addr show dev c0"), "dadfailed")
	})
	free := vip6.Next()
	n.client.IP(t, fmt.Sprintf("addr add %s/64 dev c0", free))
	netns.Wait(t, 10*time.Second, "the client's kernel to take an address that is free", func() bool {
		out := n.client.IP(t, fmt.Sprintf("-6 addr show dev c0 to %s", free))
		return !strings.Contains(out, "tentative") && !strings.Contains(out, "dadfailed")
	})
}

var naFields = []string{"eth.src", "eth.dst", "ipv6.src", "ipv6.dst", "ipv6.hlim", "icmpv6.nd.na.target_address",
	"icmpv6.nd.na.flag.r", "icmpv6.nd.na.flag.s", "icmpv6.nd.na.flag.o", "icmpv6.opt.linkaddr", "icmpv6.checksum.status"}

func TestNetnsAdvertisementsAsTsharkReadsThem(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip6))
	n.awaitAnnounced(t, vip6, "eth0")
	eth0 := n.node.MAC(t, "eth0").String()
	client := hwAddr(n.client.MAC(t, "c0"))
	group := solicitedNode(groupOf(vip6)).String()
	port := n.a.ports.Load().byName["eth0"]
	n.awaitQuiet(t, vip6)
	c := n.capture(t, "c0", fmt.Sprintf("icmpv6.nd.na.target_address==%s and icmpv6.type==136", vip6), naFields...)
	line := func(to, dest, solicited string) string {
		return strings.Join([]string{eth0, to, vip6.String(), dest, "255", vip6.String(), "False", solicited, "True", eth0, "1"}, "|")
	}
	mac := net.HardwareAddr(client[:]).String()
	for i, test := range []struct {
		name  string
		frame []byte
		want  string
	}{
		{"a multicast solicitation", ndpFrameOf(t, solicitedMAC(vip6), client, "2001:db8::7", group, solicitation(vip6, &client)), line(mac, "2001:db8::7", "True")},
		{"a unicast probe with the source option", ndpFrameOf(t, port.mac, client, "2001:db8::7", vip6.String(), solicitation(vip6, &client)), line(mac, "2001:db8::7", "True")},
		{"a unicast probe without the source option", ndpFrameOf(t, port.mac, client, "2001:db8::7", vip6.String(), solicitation(vip6, nil)), line(mac, "2001:db8::7", "True")},
		{"a DAD probe", ndpFrameOf(t, solicitedMAC(vip6), client, "::", group, solicitation(vip6, nil)), line("33:33:00:00:00:01", "ff02::1", "False")},
	} {
		n.send(t, "c0", test.frame)
		netns.Wait(t, 10*time.Second, "an answer to "+test.name, func() bool { return len(c.lines()) > i })
		if got := normal(c.lines()[i]); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.name, got, test.want)
		}
	}
}

// normal makes a line of tshark the same for all its versions: booleans were
// numbers once, and frames that share a line repeat an address.
func normal(line string) string {
	fields := strings.Split(line, "|")
	for i := 6; i <= 8 && i < len(fields); i++ {
		switch fields[i] {
		case "0":
			fields[i] = "False"
		case "1":
			fields[i] = "True"
		}
	}
	return strings.Join(fields, "|")
}

func TestNetnsBurstIsExactlyWhatTsharkSees(t *testing.T) {
	n := newLAN(t)
	eth0 := n.node.MAC(t, "eth0").String()
	arps := n.capture(t, "c0", "arp.src.proto_ipv4=="+vip4.String(),
		"eth.src", "eth.dst", "arp.opcode", "arp.src.hw_mac", "arp.src.proto_ipv4", "arp.dst.hw_mac", "arp.dst.proto_ipv4")
	nas := n.capture(t, "c0", "icmpv6.nd.na.target_address=="+vip6.String(), naFields...)
	n.a.Set(wanted(vip4, vip6))
	for range 20 { // none of these is a takeover
		n.a.Set(wanted(vip4, vip6))
		n.a.Apply(desired.L2Change{Announce: wanted(vip4)})
	}
	rounds := len(burstAt)
	netns.Wait(t, 30*time.Second, "the burst", func() bool { return len(arps.lines()) >= 2*rounds && len(nas.lines()) >= rounds })
	n.awaitQuiet(t, vip4) // one more round would show

	var wantARP, wantNA []string
	for range rounds {
		for _, op := range []string{"1", "2"} {
			wantARP = append(wantARP, strings.Join([]string{eth0, "ff:ff:ff:ff:ff:ff", op, eth0, vip4.String(), "ff:ff:ff:ff:ff:ff", vip4.String()}, "|"))
		}
		wantNA = append(wantNA, strings.Join([]string{eth0, "33:33:00:00:00:01", vip6.String(), "ff02::1", "255", vip6.String(),
			"False", "False", "True", eth0, "1"}, "|"))
	}
	if diff := cmp.Diff(wantARP, arps.lines()); diff != "" {
		t.Errorf("gratuitous ARP (-want +got):\n%s", diff)
	}
	var got []string
	for _, line := range nas.lines() {
		got = append(got, normal(line))
	}
	if diff := cmp.Diff(wantNA, got); diff != "" {
		t.Errorf("unsolicited advertisements (-want +got):\n%s", diff)
	}
}

func TestNetnsMalformedFramesDoNotHarmTheService(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip4, vip6))
	n.awaitAnnounced(t, vip4, "eth0")
	n.awaitAnnounced(t, vip6, "eth0")
	client, node := hwAddr(n.client.MAC(t, "c0")), n.a.ports.Load().byName["eth0"].mac
	request := arpFrameOf(t, broadcast, client, arp.OperationRequest, client, "10.0.0.7", hwAddr{}, vip4.String())
	solicit := ndpFrameOf(t, node, client, "fe80::7", vip6.String(), solicitation(vip6, &client))
	var frames [][]byte
	for length := ethHeader + 1; length < arpFrame; length++ {
		frames = append(frames, request[:length])
	}
	for length := ethHeader + 1; length < len(solicit); length++ {
		frames = append(frames, solicit[:length])
	}
	tagged := append(append(append([]byte{}, request[:12]...), 0x81, 0, 0, 5), request[12:]...)
	badSum := wrongSum(ndpFrameOf(t, node, client, "fe80::7", vip6.String(), solicitation(vip6, &client)))
	frames = append(frames, tagged, badSum)

	before := n.counter(t, "metallb_layer2_responses_sent", vip4) + n.counter(t, "metallb_layer2_responses_sent", vip6)
	n.send(t, "c0", frames...)
	netns.Wait(t, 10*time.Second, "malformed frames to be counted", func() bool {
		return n.counter(t, "heraldlb_layer2_malformed_frames_total", vip4) >= 20
	})
	mac := n.node.MAC(t, "eth0").String()
	n.wantAnswer(t, vip4, "c0", mac)
	n.wantAnswer(t, vip6, "c0", mac)
	after := n.counter(t, "metallb_layer2_responses_sent", vip4) + n.counter(t, "metallb_layer2_responses_sent", vip6)
	// Two sound questions, of which each may have been asked three times.
	if got := after - before; got < 2 || got > 6 {
		t.Errorf("%v answers in all, want those to the two sound questions", got)
	}
}

func TestNetnsForeignAnnouncementIsHeard(t *testing.T) {
	n := newLAN(t)
	n.a.Set(wanted(vip4, vip6))
	n.awaitAnnounced(t, vip4, "eth0")
	n.awaitAnnounced(t, vip6, "eth0")
	n.send(t, "c0",
		arpFrameOf(t, broadcast, theirMAC, arp.OperationReply, theirMAC, vip4.String(), broadcast, vip4.String()),
		ndpFrameOf(t, allNodesMAC, theirMAC, "fe80::bb", "ff02::1", &ndp.NeighborAdvertisement{Override: true, TargetAddress: vip6,
			Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: theirMAC[:]}}}))
	for _, addr := range []netip.Addr{vip4, vip6} {
		netns.Wait(t, 10*time.Second, "the foreign announcement of "+addr.String(), func() bool {
			return n.counter(t, "heraldlb_layer2_foreign_announcements_total", addr) == 1
		})
	}
}
