//go:build netns

package gobgp

import (
	"net/netip"
	"testing"

	"github.com/heraldlb/herald/speaker/desired"
)

// A peer learns the routes of both families over one session, and loses them.
func TestNetnsRoutesReachFRR(t *testing.T) {
	ns := link(t, 1)
	r, _ := start(t)
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.1/32", "2001:db8::1/128"))
	r.SetSessions([]desired.Session{peer(1)}, nil)
	tor := frr(t, ns, 1, "")
	awaitUp(t, r, "tor1")
	got := awaitRoutes(t, tor, "192.0.2.1/32", "2001:db8::1/128")
	for prefix, via := range map[string]string{"192.0.2.1/32": "10.0.1.2", "2001:db8::1/128": "fd00:1::2"} {
		if hops := got[netip.MustParsePrefix(prefix)].NextHops; len(hops) != 1 || hops[0].Via != netip.MustParseAddr(via) {
			t.Errorf("%s goes via %v, want %s", prefix, hops, via)
		}
	}
	tell(r, "tor1", routes(desired.Attributes{}, "192.0.2.2/32"))
	r.Apply(desired.BGPChange{"tor1": {Withdraw: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}})
	awaitRoutes(t, tor, "192.0.2.2/32", "2001:db8::1/128")
	if s := session1(t, r, "tor1"); s.SentIPv4 != 1 || s.SentIPv6 != 1 || s.RemoteASN != 64999 {
		t.Errorf("the room says %+v", s)
	}
	r.SetSessions(nil, nil)
	awaitRoutes(t, tor)
}
