package l2

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/ndp"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

func mustAddr(t testing.TB, s string) netip.Addr {
	t.Helper()
	addr, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func TestRespondNDP(t *testing.T) {
	const client = "fe80::bb"
	group, groupMAC := solicitedNode(groupOf(vip6)).String(), solicitedMAC(vip6)
	foreignIP, elsewhere := mustAddr(t, "2001:db8::101"), mustAddr(t, "2001:db8::102")
	multicast := func(target netip.Addr, source *hwAddr) []byte {
		return ndpFrameOf(t, solicitedMAC(target), theirMAC, client, solicitedNode(groupOf(target)).String(), solicitation(target, source))
	}
	unicast := func(source *hwAddr) []byte {
		return ndpFrameOf(t, ourMAC, theirMAC, client, vip6.String(), solicitation(vip6, source))
	}
	dad := func(dest string, source *hwAddr) []byte {
		return ndpFrameOf(t, groupMAC, theirMAC, "::", dest, solicitation(vip6, source))
	}
	announcement := func(from hwAddr, target netip.Addr) []byte {
		return ndpFrameOf(t, allNodesMAC, from, client, "ff02::1", &ndp.NeighborAdvertisement{Override: true, TargetAddress: target,
			Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: net.HardwareAddr(from[:])}}})
	}
	change := func(frame []byte, at int, value ...byte) []byte {
		copy(frame[at:], value)
		return resum(frame)
	}
	const (
		answer      = "02:00:00:00:00:aa > 02:00:00:00:00:bb: NA 2001:db8::100 > fe80::bb hop 255: 2001:db8::100 is at 02:00:00:00:00:aa [override solicited]"
		answerThird = "02:00:00:00:00:aa > 02:00:00:00:00:cc: NA 2001:db8::100 > fe80::bb hop 255: 2001:db8::100 is at 02:00:00:00:00:aa [override solicited]"
		answerDAD   = "02:00:00:00:00:aa > 33:33:00:00:00:01: NA 2001:db8::100 > ff02::1 hop 255: 2001:db8::100 is at 02:00:00:00:00:aa [override]"
	)

	for name, test := range map[string]struct {
		frame   []byte
		want    string
		verdict verdict
	}{
		"a multicast solicitation":                  {multicast(vip6, &theirMAC), answer, answered},
		"a multicast solicitation without option":   {multicast(vip6, nil), answer, answered},
		"a unicast probe with the source option":    {unicast(&theirMAC), answer, answered},
		"a unicast probe without the source option": {unicast(nil), answer, answered},
		"the option tells where to answer":          {multicast(vip6, &thirdMAC), answerThird, answered},
		"a DAD probe":                               {dad(group, nil), answerDAD, answered},
		"a nonce, as in enhanced DAD (RFC 7527)": {
			ndpFrameOf(t, groupMAC, theirMAC, "::", group, &ndp.NeighborSolicitation{TargetAddress: vip6, Options: []ndp.Option{ndp.NewNonce()}}),
			answerDAD, answered,
		},
		"a DAD probe with a source option":                         {dad(group, &theirMAC), "nothing", malformed},
		"a DAD probe to all nodes":                                 {dad("ff02::1", nil), "nothing", malformed},
		"a solicitation with padding":                              {append(multicast(vip6, &theirMAC), 0, 0, 0, 0), answer, answered},
		"a solicitation for a foreign address":                     {multicast(foreignIP, &theirMAC), "nothing", ignored},
		"one on an interface not allowed":                          {multicast(elsewhere, &theirMAC), "nothing", ignored},
		"one to another station":                                   {change(unicast(&theirMAC), ethDestination, thirdMAC[:]...), "nothing", ignored},
		"one to another IP of ours":                                {ndpFrameOf(t, ourMAC, theirMAC, client, foreignIP.String(), solicitation(vip6, &theirMAC)), "nothing", ignored},
		"our own frame, looped back":                               {change(multicast(vip6, &theirMAC), ethSource, ourMAC[:]...), "nothing", ignored},
		"a hop limit below 255 came from outside":                  {change(multicast(vip6, &theirMAC), ip6HopLimit, 254), "nothing", malformed},
		"a code that is not 0":                                     {change(multicast(vip6, &theirMAC), icmpCode, 1), "nothing", malformed},
		"a wrong checksum":                                         {wrongSum(multicast(vip6, &theirMAC)), "nothing", malformed},
		"an option of length 0":                                    {change(multicast(vip6, &theirMAC), ndpOptions+1, 0), "nothing", malformed},
		"an option longer than the packet":                         {change(multicast(vip6, &theirMAC), ndpOptions+1, 2), "nothing", malformed},
		"an option cut in its head":                                {resum(setLength(multicast(vip6, &theirMAC), 25)), "nothing", malformed},
		"a source option that is a group":                          {multicast(vip6, &broadcast), "nothing", malformed},
		"a source that is a group":                                 {ndpFrameOf(t, groupMAC, theirMAC, "ff02::7", group, solicitation(vip6, &theirMAC)), "nothing", malformed},
		"a station that is a group":                                {change(multicast(vip6, nil), ethSource, broadcast[:]...), "nothing", malformed},
		"a version that is not 6":                                  {change(multicast(vip6, &theirMAC), ethHeader, 0x40), "nothing", malformed},
		"a length beyond the frame":                                {setLength(multicast(vip6, &theirMAC), 200), "nothing", malformed},
		"a length too short for a target":                          {setLength(multicast(vip6, &theirMAC), 20), "nothing", malformed},
		"a truncated frame":                                        {multicast(vip6, &theirMAC)[:ndpOptions-1], "nothing", malformed},
		"an empty frame":                                           {nil, "nothing", malformed},
		"a UDP packet":                                             {change(multicast(vip6, &theirMAC), ip6Next, 17), "nothing", ignored},
		"an echo request":                                          {change(multicast(vip6, &theirMAC), icmpType, 128), "nothing", ignored},
		"somebody announces our address":                           {announcement(theirMAC, vip6), "nothing", foreign},
		"somebody announces an address of his own":                 {announcement(theirMAC, foreignIP), "nothing", ignored},
		"our other interface on the segment announces our address": {announcement(otherMAC, vip6), "nothing", ignored},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestAnnouncer(t)
			a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC), linkOf(3, "eth2", otherMAC)})
			a.Set(desired.L2{vip6: {}, elsewhere: {Interfaces: []string{"eth1"}}})
			reply, e, verdict := a.decide(protoNDP, 2, test.frame, make([]byte, 0, 128))
			if verdict != answered {
				reply = nil
			}
			if got := describe(t, reply); got != test.want || verdict != test.verdict {
				t.Errorf("got  %s (verdict %d)\nwant %s (verdict %d)", got, verdict, test.want, test.verdict)
			}
			if aboutOurs := verdict == answered || verdict == foreign; aboutOurs != (e != nil && e.addr == vip6) {
				t.Errorf("the frame is about %v", e)
			}
		})
	}
}

// resum makes a changed frame's checksum right again.
func resum(frame []byte) []byte {
	binary.BigEndian.PutUint16(frame[icmpChecksum:], 0)
	end := icmpType + int(binary.BigEndian.Uint16(frame[ip6Length:]))
	binary.BigEndian.PutUint16(frame[icmpChecksum:], icmp6Checksum(frame[:min(end, len(frame))]))
	return frame
}

func wrongSum(frame []byte) []byte {
	frame[icmpChecksum]++
	return frame
}

func setLength(frame []byte, length uint16) []byte {
	binary.BigEndian.PutUint16(frame[ip6Length:], length)
	return frame
}

func FuzzRespondNDP(f *testing.F) {
	group := solicitedNode(groupOf(vip6)).String()
	f.Add(ndpFrameOf(f, solicitedMAC(vip6), theirMAC, "fe80::bb", group, solicitation(vip6, &theirMAC)))
	f.Add(ndpFrameOf(f, ourMAC, theirMAC, "fe80::bb", vip6.String(), solicitation(vip6, nil)))
	f.Add(ndpFrameOf(f, solicitedMAC(vip6), theirMAC, "::", group, solicitation(vip6, nil)))
	f.Add([]byte{})
	a := newTestAnnouncer(f)
	a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	a.Set(wanted(vip6))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) >= ndpOptions {
			frame = resum(frame) // or the fuzzer never gets past the checksum
		}
		reply, _, verdict := a.decide(protoNDP, 2, frame, make([]byte, 0, 128))
		if verdict != answered {
			return
		}
		describe(t, reply) // fails on what the library cannot read
		// Whatever we answer, the library must also hold for a solicitation.
		end := icmpType + int(binary.BigEndian.Uint16(frame[ip6Length:]))
		m, err := ndp.ParseMessage(frame[icmpType:end])
		if ns, ok := m.(*ndp.NeighborSolicitation); err != nil || !ok || ns.TargetAddress != vip6 {
			t.Errorf("answered %x, which the library reads as %v, %v", frame, m, err)
		}
		if to := hwAddr(reply); to.group() && to != allNodesMAC {
			t.Errorf("the answer goes to %x", to)
		}
	})
}
