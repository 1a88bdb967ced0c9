package l2

import (
	"testing"

	"github.com/mdlayher/arp"

	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

func TestRespondARP(t *testing.T) {
	const client, foreignIP, elsewhere = "10.0.0.7", "10.0.0.101", "10.0.0.102"
	zero := hwAddr{}
	request := func(to hwAddr, senderAddr, targetAddr string) []byte {
		return arpFrameOf(t, to, theirMAC, arp.OperationRequest, theirMAC, senderAddr, zero, targetAddr)
	}
	change := func(frame []byte, at int, value ...byte) []byte {
		copy(frame[at:], value)
		return frame
	}
	const answer = "02:00:00:00:00:aa > 02:00:00:00:00:bb: ARP OperationReply 10.0.0.100 is at 02:00:00:00:00:aa, to 10.0.0.7 at 02:00:00:00:00:bb"

	for name, test := range map[string]struct {
		frame   []byte
		want    string
		verdict verdict
	}{
		"a broadcast request":                              {request(broadcast, client, vip4.String()), answer, answered},
		"a unicast request, as neighbours make to confirm": {request(ourMAC, client, vip4.String()), answer, answered},
		"a probe before an address is taken (RFC 5227)": {
			request(broadcast, "0.0.0.0", vip4.String()),
			"02:00:00:00:00:aa > 02:00:00:00:00:bb: ARP OperationReply 10.0.0.100 is at 02:00:00:00:00:aa, to 0.0.0.0 at 02:00:00:00:00:bb",
			answered,
		},
		"a request behind a proxy goes to who asked": {
			arpFrameOf(t, broadcast, theirMAC, arp.OperationRequest, thirdMAC, client, zero, vip4.String()),
			"02:00:00:00:00:aa > 02:00:00:00:00:cc: ARP OperationReply 10.0.0.100 is at 02:00:00:00:00:aa, to 10.0.0.7 at 02:00:00:00:00:cc",
			answered,
		},
		"a request with padding":                {append(request(broadcast, client, vip4.String()), make([]byte, 18)...), answer, answered},
		"a request for a foreign address":       {request(broadcast, client, foreignIP), "nothing", ignored},
		"a request on an interface not allowed": {request(broadcast, client, elsewhere), "nothing", ignored},
		"a request to another station":          {request(thirdMAC, client, vip4.String()), "nothing", ignored},
		"our own frame, looped back":            {change(request(broadcast, client, vip4.String()), ethSource, ourMAC[:]...), "nothing", ignored},
		"a reply": {
			arpFrameOf(t, ourMAC, theirMAC, arp.OperationReply, theirMAC, client, ourMAC, vip4.String()), "nothing", ignored,
		},
		"somebody announces our address by a request": {request(broadcast, vip4.String(), vip4.String()), "nothing", foreign},
		"somebody announces our address by a reply": {
			arpFrameOf(t, broadcast, theirMAC, arp.OperationReply, theirMAC, vip4.String(), broadcast, vip4.String()), "nothing", foreign,
		},
		"somebody announces an address of his own": {request(broadcast, foreignIP, foreignIP), "nothing", ignored},
		"our other interface on the segment announces our address": {
			arpFrameOf(t, broadcast, otherMAC, arp.OperationRequest, otherMAC, vip4.String(), broadcast, vip4.String()), "nothing", ignored,
		},
		"our other interface's announcement, sent on by a proxy": {
			arpFrameOf(t, broadcast, theirMAC, arp.OperationReply, otherMAC, vip4.String(), broadcast, vip4.String()), "nothing", ignored,
		},
		"a reverse ARP request":              {change(request(broadcast, client, vip4.String()), arpOperation, 0, 3), "nothing", ignored},
		"a truncated request":                {request(broadcast, client, vip4.String())[:arpFrame-1], "nothing", malformed},
		"an empty frame":                     {nil, "nothing", malformed},
		"token ring hardware":                {change(request(broadcast, client, vip4.String()), arpHardware, 0, 6), "nothing", malformed},
		"a protocol that is not IPv4":        {change(request(broadcast, client, vip4.String()), arpProtocol, 0x86, 0xdd), "nothing", malformed},
		"an address length that is not ours": {change(request(broadcast, client, vip4.String()), arpLengths, 8), "nothing", malformed},
		"a sender that is a group":           {change(request(broadcast, client, vip4.String()), arpSenderMAC, broadcast[:]...), "nothing", malformed},
		"a sender that is nobody":            {change(request(broadcast, client, vip4.String()), arpSenderMAC, zero[:]...), "nothing", malformed},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTestAnnouncer(t)
			a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC), linkOf(3, "eth2", otherMAC)})
			a.Set(desired.L2{
				vip4:                   {Interfaces: []string{"eth0"}},
				mustAddr(t, elsewhere): {Interfaces: []string{"eth1"}},
			})
			reply, e, verdict := a.decide(protoARP, 2, test.frame, make([]byte, 0, 128))
			if verdict != answered {
				reply = nil
			}
			if got := describe(t, reply); got != test.want || verdict != test.verdict {
				t.Errorf("got  %s (verdict %d)\nwant %s (verdict %d)", got, verdict, test.want, test.verdict)
			}
			if aboutOurs := verdict == answered || verdict == foreign; aboutOurs != (e != nil && e.addr == vip4) {
				t.Errorf("the frame is about %v", e)
			}
		})
	}
}

func FuzzRespondARP(f *testing.F) {
	f.Add(arpFrameOf(f, broadcast, theirMAC, arp.OperationRequest, theirMAC, "10.0.0.7", hwAddr{}, vip4.String()))
	f.Add(arpFrameOf(f, broadcast, theirMAC, arp.OperationReply, theirMAC, vip4.String(), broadcast, vip4.String()))
	f.Add([]byte{})
	a := newTestAnnouncer(f)
	a.SetLinks(observed.Links{linkOf(2, "eth0", ourMAC)})
	a.Set(wanted(vip4))
	f.Fuzz(func(t *testing.T, frame []byte) {
		reply, e, verdict := a.decide(protoARP, 2, frame, make([]byte, 0, 128))
		if verdict != answered {
			return
		}
		var p arp.Packet
		if err := p.UnmarshalBinary(reply[ethHeader:]); err != nil {
			t.Fatalf("our answer cannot be read: %v", err)
		}
		if e == nil || p.SenderIP != vip4 || p.Operation != arp.OperationReply || hwAddr(p.SenderHardwareAddr) != ourMAC {
			t.Errorf("answer %s", describe(t, reply))
		}
		if to := hwAddr(reply); !to.usable() || hwAddr(p.TargetHardwareAddr) != to {
			t.Errorf("the answer goes to %x", to)
		}
	})
}
