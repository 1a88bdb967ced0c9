package bgp_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/speaker/bgp"
	"github.com/heraldlb/herald/speaker/desired"
)

func openGen() *rapid.Generator[bgp.Open] {
	return rapid.Custom(func(t *rapid.T) bgp.Open {
		yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
		id := rapid.Uint32Range(1, 1<<32-1).Draw(t, "id")
		o := bgp.Open{
			ASN:      rapid.Uint32Range(1, 65535).Draw(t, "asn"),
			HoldTime: time.Duration(rapid.SampledFrom([]int{0, 3, 90, 65535}).Draw(t, "hold")) * time.Second,
			ID:       netip.AddrFrom4([4]byte{byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}),
			IPv4:     true, IPv6: yes("ipv6"), IPv4OverIPv6: yes("rfc8950"), Refresh: yes("refresh"), Extended: yes("extended"),
			FourOctetAS: yes("as4"), GracefulRestart: yes("gr"),
		}
		if o.FourOctetAS {
			o.ASN = rapid.Uint32Min(1).Draw(t, "asn4")
		}
		if o.GracefulRestart {
			o.Restarting, o.RestartTime = yes("restarting"), time.Duration(rapid.IntRange(0, 4095).Draw(t, "time"))*time.Second
		}
		return o
	})
}

// What we say in an OPEN we understand.
func TestPropertyOpenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := openGen().Draw(t, "open")
		b := want.Append(nil)
		n, kind, refusal := bgp.ParseHeader(b, false)
		if refusal != nil || n != len(b) || kind != bgp.OpenMessage {
			t.Fatalf("header: %d, %s, %v", n, kind, refusal)
		}
		got, refusal := bgp.ParseOpen(b[bgp.HeaderLen:])
		if refusal != nil {
			t.Fatal(refusal)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestOpenRefusals(t *testing.T) {
	good := (&bgp.Open{ASN: 64999, HoldTime: 90 * time.Second, ID: netip.MustParseAddr("10.0.0.1"), IPv4: true}).Append(nil)[bgp.HeaderLen:]
	set := func(at int, octets ...byte) []byte {
		b := slices.Clone(good)
		copy(b[at:], octets)
		return b
	}
	for _, tc := range []struct {
		name string
		body []byte
		want string
	}{
		{"version 3", set(0, 3), "OPEN Message Error/Unsupported Version Number"},
		{"AS 0", set(1, 0, 0), "OPEN Message Error/Bad Peer AS"},
		{"hold time 2", set(3, 0, 2), "OPEN Message Error/Unacceptable Hold Time"},
		{"identifier 0.0.0.0", set(5, 0, 0, 0, 0), "OPEN Message Error/Bad BGP Identifier"},
		{"authentication parameter", set(10, 1), "OPEN Message Error/Unsupported Optional Parameter"},
		{"parameters longer than the message", set(9, 200), "OPEN Message Error"},
		{"a parameter longer than the parameters", set(11, 200), "OPEN Message Error"},
		{"a capability longer than its parameter", set(13, 200), "OPEN Message Error"},
		{"too short", good[:9], "Message Header Error/Bad Message Length"},
	} {
		if _, refusal := bgp.ParseOpen(tc.body); refusal == nil || refusal.String() != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, refusal, tc.want)
		}
	}
	// RFC 9072: the same in the longer form.
	long := append(slices.Clone(good[:9]), 255, 255, 0, byte(len(good)-9), 2, 0, byte(len(good)-12))
	long = append(long, good[12:]...)
	if o, refusal := bgp.ParseOpen(long); refusal != nil || !o.IPv4 || o.ASN != 64999 {
		t.Errorf("extended parameters: %+v, %v", o, refusal)
	}
}

func TestHeaders(t *testing.T) {
	head := func(size int, kind byte) []byte {
		b := bgp.AppendHeader(nil, bgp.MessageType(kind), size-bgp.HeaderLen)
		return b
	}
	for _, tc := range []struct {
		name     string
		b        []byte
		extended bool
		want     string // "" for accepted
	}{
		{"KEEPALIVE", head(19, 4), false, ""},
		{"KEEPALIVE with a body", head(20, 4), false, "Message Header Error/Bad Message Length"},
		{"UPDATE of 4096", head(4096, 2), false, ""},
		{"UPDATE of 4097", head(4097, 2), false, "Message Header Error/Bad Message Length"},
		{"UPDATE of 65535, agreed", head(65535, 2), true, ""},
		{"OPEN of 4097, agreed", head(4097, 1), true, "Message Header Error/Bad Message Length"},
		{"UPDATE too short", head(22, 2), false, "Message Header Error/Bad Message Length"},
		{"length below the header", head(18, 2), false, "Message Header Error/Bad Message Length"},
		{"unknown type", head(19, 9), false, "Message Header Error/Bad Message Type"},
		{"no marker", append([]byte{0}, head(19, 4)[1:]...), false, "Message Header Error/Connection Not Synchronized"},
	} {
		_, _, refusal := bgp.ParseHeader(tc.b, tc.extended)
		if got := ""; refusal != nil && refusal.String() != tc.want || refusal == nil && tc.want != got {
			t.Errorf("%s: %v, want %q", tc.name, refusal, tc.want)
		}
	}
}

func TestNotifications(t *testing.T) {
	for _, tc := range []struct {
		name string
		body []byte
		want string
	}{
		{"without subcode", []byte{4, 0}, "Hold Timer Expired"},
		{"with subcode", []byte{2, 2}, "OPEN Message Error/Bad Peer AS"},
		{"with a word", append([]byte{6, 2, 7}, "go away"...), `Cease/Administrative Shutdown: "go away"`},
		{"with control characters", append([]byte{6, 4, 8}, "go\x1b[2Jme"...), `Cease/Administrative Reset: "go[2Jme"`},
		{"a word cut short", append([]byte{6, 2, 20}, "go away"...), "Cease/Administrative Shutdown"},
		{"hard reset", append([]byte{6, 9, 6, 2, 2}, "ok"...), `Cease/Administrative Shutdown: "ok"`},
		{"BFD", []byte{6, 10}, "Cease/BFD Down"},
		{"unknown", []byte{77, 5}, "code 77/subcode 5"},
		{"a sentence as data", append([]byte{2, 9}, "multisession is mandatory"...), `OPEN Message Error/subcode 9: "multisession is mandatory"`},
		{"data that is no sentence", []byte{1, 3, 'x'}, "Message Header Error/Bad Message Type"},
		{"data with octets among the words", append([]byte{3, 1}, "an \x80 attribute"...), "UPDATE Message Error/Malformed Attribute List"},
	} {
		n := bgp.ParseNotification(tc.body)
		if got := n.String(); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	if got, want := bgp.MissingFamilies(true, true).Append(nil)[bgp.HeaderLen:], []byte{2, 7, 1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1}; !bytes.Equal(got, want) {
		t.Errorf("missing families: % x, want % x", got, want)
	}
	long := bgp.Shutdown(strings.Repeat("ä", 200))
	if got := long.Text(); got != strings.Repeat("ä", 127) {
		t.Errorf("a long word is cut to %d octets: %q", len(got), got)
	}
	b := long.Append(nil)
	if n, kind, refusal := bgp.ParseHeader(b, false); n != len(b) || kind != bgp.NotificationMessage || refusal != nil {
		t.Errorf("our own NOTIFICATION: %d, %s, %v", n, kind, refusal)
	}
}

func TestUpdates(t *testing.T) {
	// An UPDATE that withdraws 10.0.0.0/8, has ORIGIN, announces 2001:db8::/32
	// by MP_REACH and 192.0.2.1/32 plainly, and withdraws ::/0 by MP_UNREACH.
	body := []byte{
		0, 2, 8, 10,
		0, 41, // 4 + 30 + 7
		0x40, 1, 1, 0,
		0x90, 14, 0, 26, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 0x01, 0x0d, 0xb8,
		0x80, 15, 4, 0, 2, 1, 0,
		32, 192, 0, 2, 1,
	}
	var announced, withdrawn []string
	ok := bgp.Update(body, func(p netip.Prefix) { announced = append(announced, p.String()) },
		func(p netip.Prefix) { withdrawn = append(withdrawn, p.String()) })
	if !ok || strings.Join(announced, " ") != "2001:db8::/32 192.0.2.1/32" || strings.Join(withdrawn, " ") != "10.0.0.0/8 ::/0" {
		t.Errorf("%t: announced %v, withdrawn %v", ok, announced, withdrawn)
	}
	for i := range len(body) - 5 { // all but the plain prefix can be missed
		if bgp.Update(body[:i], func(netip.Prefix) {}, func(netip.Prefix) {}) {
			t.Errorf("%d of %d octets are a whole UPDATE", i, len(body))
		}
	}
	for _, f := range []bgp.Family{bgp.IPv4, bgp.IPv6} {
		b := bgp.AppendEndOfRIB(nil, f)
		if n, _, refusal := bgp.ParseHeader(b, false); n != len(b) || refusal != nil {
			t.Errorf("end of RIB of %s: %d octets, header says %d, %v", f, len(b), n, refusal)
		}
		none := func(p netip.Prefix) { t.Errorf("end of RIB of %s holds %s", f, p) }
		if !bgp.Update(b[bgp.HeaderLen:], none, none) {
			t.Errorf("end of RIB of %s is malformed", f)
		}
		if got, ok := bgp.ParseRefresh(bgp.AppendRefresh(nil, f)[bgp.HeaderLen:]); !ok || got != f {
			t.Errorf("refresh of %s: %s, %t", f, got, ok)
		}
	}
}

func TestAttributesOnTheWire(t *testing.T) {
	a := &desired.Attributes{LocalPref: 200, MED: ptr(uint32(0)), Prepend: 2, Weight: 2, Communities: []config.Community{
		{Kind: config.StandardCommunity, Fields: [3]uint32{64512, 1}},
		{Kind: config.LargeCommunity, Fields: [3]uint32{1, 2, 3}},
		{Kind: config.ExtendedCommunity, Fields: [3]uint32{0x00020001, 0x00000002}},
	}}
	bandwidth := [8]byte{0x40, 0x04, 0x5b, 0xa0, 0x4d, 0x6e, 0x6b, 0x28} // AS 23456, 250 MB/s
	all := bgp.Wire{
		MED: ptr(uint32(0)), Prepend: []uint32{4200000001, 4200000001}, Standard: []uint32{64512<<16 | 1}, Large: [][3]uint32{{1, 2, 3}},
		Extended: [][8]byte{{0, 2, 0, 1, 0, 0, 0, 2}, bandwidth},
	}
	internal := all
	internal.Prepend, internal.LocalPref = nil, ptr(uint32(200))
	leaving := internal
	leaving.LocalPref, leaving.Standard = ptr(uint32(0)), []uint32{64512<<16 | 1, 65535 << 16}
	for _, tc := range []struct {
		name              string
		external, leaving bool
		want              bgp.Wire
	}{
		{"to another AS: no local preference", true, false, all},
		{"to our own AS: no prepending", false, false, internal},
		{"while leaving", false, true, leaving},
	} {
		if diff := cmp.Diff(tc.want, bgp.OnTheWire(a, 4200000001, tc.external, tc.leaving)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if a.LocalPref != 200 || len(a.Communities) != 3 {
		t.Error("the shared attributes were changed")
	}
}

// No octets make the decoders of a peer's messages fail.
func FuzzMessages(f *testing.F) {
	f.Add((&bgp.Open{ASN: 64999, ID: netip.MustParseAddr("10.0.0.1"), IPv4: true, GracefulRestart: true}).Append(nil))
	f.Add(bgp.AppendEndOfRIB(nil, bgp.IPv6))
	f.Add(bgp.Shutdown("bye").Append(nil))
	f.Add(bgp.AppendRefresh(nil, bgp.IPv4))
	// MP_REACH shorter than its fixed part.
	f.Add(append(bgp.AppendHeader(nil, bgp.UpdateMessage, 8), 0, 0, 0, 4, 0x80, 14, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < bgp.HeaderLen {
			return
		}
		if n, _, refusal := bgp.ParseHeader(b, true); refusal == nil && (n < bgp.HeaderLen || n > bgp.MaxExtendedLen) {
			t.Fatalf("a message of %d octets", n)
		}
		body := b[bgp.HeaderLen:]
		if o, refusal := bgp.ParseOpen(body); refusal == nil {
			again, refusal := bgp.ParseOpen(o.Append(nil)[bgp.HeaderLen:])
			if refusal != nil || again.ASN != o.ASN && o.FourOctetAS {
				t.Fatalf("what we understood we do not understand: %+v, %v", o, refusal)
			}
		}
		if len(body) >= 2 {
			n := bgp.ParseNotification(body)
			if bytes.ContainsRune([]byte(n.String()), 0x1b) {
				t.Fatalf("a control character in %q", n.String())
			}
		}
		each := func(p netip.Prefix) {
			if !p.IsValid() || p != p.Masked() {
				t.Fatalf("prefix %s", p)
			}
		}
		bgp.Update(body, each, each)
		bgp.ParseRefresh(body)
	})
}
