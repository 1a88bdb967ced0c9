package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
)

const aliases = `
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: names, namespace: metallb-system}
spec:
  communities:
  - {name: blue, value: "large:64512:1:2"}
  - {name: no-export, value: "64512:1"}
  - {name: "64512:9", value: "64512:10"}
  - {name: drain, value: graceful-shutdown}
`

// The octets are those of RFC 4360, sections 3 to 5, and RFC 5668, section 2.
func TestCommunityOfText(t *testing.T) {
	s := compile(t, aliases)
	standard := func(a, b uint32) config.Community {
		return config.Community{Kind: config.StandardCommunity, Fields: [3]uint32{a, b}}
	}
	extended := func(a, b uint32) config.Community {
		return config.Community{Kind: config.ExtendedCommunity, Fields: [3]uint32{a, b}}
	}
	for _, tc := range []struct {
		name, text string
		want       config.Community
		again      string
	}{
		{"a standard community", "65535:65535", standard(65535, 65535), "65535:65535"},
		{"leading zeros", "064512:0001", standard(64512, 1), "64512:1"},
		{"a large community", "large:4294967295:0:1", config.Community{Kind: config.LargeCommunity, Fields: [3]uint32{4294967295, 0, 1}}, "large:4294967295:0:1"},
		{"a route target of a short AS", "rt:64512:4294967295", extended(0x0002fc00, 0xffffffff), "rt:64512:4294967295"},
		{"a route target of a long AS", "rt:4200000000:65535", extended(0x0202fa56, 0xea00ffff), "rt:4200000000:65535"},
		{"a route target of an address", "rt:192.0.2.1:513", extended(0x0102c000, 0x02010201), "rt:192.0.2.1:513"},
		{"a site of origin", "soo:64512:1", extended(0x0003fc00, 1), "soo:64512:1"},
		{"a site of origin of a long AS", "soo:65536:1", extended(0x02030001, 1), "soo:65536:1"},
		{"a site of origin of an address", "soo:0.0.0.0:0", extended(0x01030000, 0), "soo:0.0.0.0:0"},
		{"any octets", "ext:4004FC0049742400", extended(0x4004fc00, 0x49742400), "ext:4004fc0049742400"},
		{"octets that have a notation", "ext:0002fc0000000064", extended(0x0002fc00, 100), "rt:64512:100"},
		{"a short AS in the long form has none", "ext:0202000000010064", extended(0x02020000, 0x00010064), "ext:0202000000010064"},
		{"nor has what is not transitive", "ext:4002fc0000000064", extended(0x4002fc00, 100), "ext:4002fc0000000064"},
		{"a name", "blue", config.Community{Kind: config.LargeCommunity, Fields: [3]uint32{64512, 1, 2}}, "large:64512:1:2"},
		{"a name for a well-known one", "drain", standard(65535, 0), "65535:0"},
		{"a name wins over a well-known one", "no-export", standard(64512, 1), "64512:1"},
		{"a name wins over a literal", "64512:9", standard(64512, 10), "64512:10"},
		{"graceful-shutdown", "graceful-shutdown", standard(65535, 0), "65535:0"},
		{"accept-own", "accept-own", standard(65535, 1), "65535:1"},
		{"llgr-stale", "llgr-stale", standard(65535, 6), "65535:6"},
		{"no-llgr", "no-llgr", standard(65535, 7), "65535:7"},
		{"blackhole", "blackhole", standard(65535, 666), "65535:666"},
		{"no-advertise", "no-advertise", standard(65535, 65282), "65535:65282"},
		{"no-export-subconfed", "no-export-subconfed", standard(65535, 65283), "65535:65283"},
		{"no-peer", "no-peer", standard(65535, 65284), "65535:65284"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := s.Community(tc.text)
			if diff := cmp.Diff(tc.want, got); diff != "" || err != nil {
				t.Errorf("error %v, (-want +got):\n%s", err, diff)
			}
			if got.String() != tc.again {
				t.Errorf("it writes itself %q, want %q", got, tc.again)
			}
		})
	}
	if c, err := compile(t, "").Community("no-export"); err != nil || c != standard(65535, 65281) {
		t.Errorf("no-export without an alias is %v, %v", c, err)
	}
}

// A name can be defined any moment; a malformed literal stays malformed.
func TestCommunityOfNonsense(t *testing.T) {
	s := compile(t, aliases)
	for text, wantName := range map[string]bool{
		"gone": true, "": true, "No-Export": true, "large": true,
		"1:2:3": false, ":": false, "65536:1": false, "-1:1": false, "large:1:2": false, "large:1:2:4294967296": false,
		"rt:1": false, "rt::1": false, "rt:1:2:3": false, "rt:4294967296:1": false, "rt:65536:65536": false,
		"rt:1.2.3:1": false, "rt:2001:db8::1:1": false, "soo:10.0.0.1:65536": false, "soo:10.0.0.1:": false,
		"ext:": false, "ext:0002fc000000006": false, "ext:0002fc00000000640": false, "ext:0002fc000000006g": false,
		"color:0:1": false, "RT:1:1": false,
	} {
		c, err := s.Community(text)
		var unknown *config.UnknownCommunityError
		if err == nil || c != (config.Community{}) || errors.As(err, &unknown) != wantName {
			t.Errorf("%q is %v, %v; want an error, for an unknown name: %t", text, c, err, wantName)
			continue
		}
		if !strings.Contains(err.Error(), "expected") {
			t.Errorf("%q: %v: it does not say what is expected", text, err)
		}
	}
}

// What a community writes of itself reads as the same community.
func TestCommunityTextIsReversible(t *testing.T) {
	s := compile(t, "")
	rapid.Check(t, func(t *rapid.T) {
		c := config.Community{Kind: config.CommunityKind(rapid.IntRange(0, 2).Draw(t, "kind"))}
		switch c.Kind {
		case config.StandardCommunity:
			c.Fields = [3]uint32{rapid.Uint32Range(0, 65535).Draw(t, "a"), rapid.Uint32Range(0, 65535).Draw(t, "b")}
		case config.LargeCommunity:
			c.Fields = [3]uint32{rapid.Uint32().Draw(t, "a"), rapid.Uint32().Draw(t, "b"), rapid.Uint32().Draw(t, "c")}
		case config.ExtendedCommunity:
			// Mostly the types that have a notation.
			high := rapid.SampledFrom([]uint32{0x0002, 0x0003, 0x0102, 0x0103, 0x0202, 0x0203, 0x4004, 0x0004}).Draw(t, "type")
			c.Fields = [3]uint32{high<<16 | rapid.Uint32Range(0, 65535).Draw(t, "a"), rapid.Uint32().Draw(t, "b")}
		}
		again, err := s.Community(c.String())
		if err != nil || again != c {
			t.Fatalf("%#v writes %q, which reads %#v, %v", c, c, again, err)
		}
	})
}

// What does not fit into a message could not be announced, and would take the
// session down in the attempt.
func TestCommunitiesFitIntoAMessage(t *testing.T) {
	for _, tc := range []struct {
		name, format string
		fit          int
	}{
		{"standard", "64512:%d", 768},
		{"large", "large:64512:1:%d", 256},
		{"extended", "rt:64512:%d", 384},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, n := range []int{tc.fit, tc.fit + 1} {
				var ad v1beta1.BGPAdvertisement
				ad.Name = "ad"
				for i := range n {
					ad.Spec.Communities = append(ad.Spec.Communities, v1beta1.CommunityRef(fmt.Sprintf(tc.format, i)))
				}
				s, problems := config.Compile(config.Objects{BGPAdvertisements: []v1beta1.BGPAdvertisement{ad}})
				if fits := n == tc.fit; fits != (len(s.BGPAdvertisements) == 1) || fits != (len(problems) == 0) {
					t.Errorf("%d communities: %d advertisements, problems %v", n, len(s.BGPAdvertisements), problems)
				}
			}
		})
	}
}

// FuzzCommunity feeds what users write for a community.
func FuzzCommunity(f *testing.F) {
	for _, seed := range []string{
		"64512:1", "large:1:2:3", "rt:64512:1", "rt:192.0.2.1:1", "soo:65536:1", "ext:4004fc0000000000",
		"no-export", "blue", "rt:", "ext:zz", "rt:::", "large:", "rt:1:+1", "::ffff:10.0.0.1",
	} {
		f.Add(seed)
	}
	s := compile(f, aliases)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := s.Community(text)
		if err != nil {
			if c != (config.Community{}) {
				t.Fatalf("%q is both %v and an error", text, c)
			}
			return
		}
		if again, err := s.Community(c.String()); err != nil || again != c && c.String() != "64512:9" {
			t.Fatalf("%q is %v, which reads %v, %v", text, c, again, err)
		}
	})
}
