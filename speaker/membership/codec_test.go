package membership

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/memberlist"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/speaker/observed"
)

var comparable = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func prefixes(ss ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range ss {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func sample() state {
	return state{
		Node:    "node-a",
		Version: version{Epoch: 0x0102030405060708, Seq: 300},
		Phase:   observed.Ready,
		Interfaces: []observed.Interface{
			{Name: "bond0.100", Prefixes: prefixes("10.0.0.0/22", "2001:db8::/61"), Carrier: true, IPv4: true},
			{Name: "eth1", IPv6: true},
		},
	}
}

func TestAMessageHasExactlyThisForm(t *testing.T) {
	want := "H\x01" + "\x3d" +
		"\x01\x06node-a" +
		"\x02\x0a\x01\x02\x03\x04\x05\x06\x07\x08\xac\x02" +
		"\x03\x01\x01" +
		"\x04\x1b\x09bond0.100\x03\x02" + "\x04\x16\x0a\x00\x00" + "\x06\x3d\x20\x01\x0d\xb8\x00\x00\x00\x00" +
		"\x04\x07\x04eth1\x04\x00"
	if got := string(appendMessage(nil, sample())); got != want {
		t.Errorf("encoding changed (-want +got):\n%s", cmp.Diff(fmt.Sprintf("%q", want), fmt.Sprintf("%q", got)))
	}
}

func TestDecodeMessage(t *testing.T) {
	good := appendMessage(nil, sample())
	body := appendState(nil, sample())
	wrap := func(bodies ...[]byte) []byte {
		b := []byte{magic, format}
		for _, s := range bodies {
			b = append(b, byte(len(s)))
			b = append(b, s...)
		}
		return b
	}
	node := appendField(nil, tagNode, []byte("node-b"))
	ver := appendField(nil, tagVersion, []byte{0, 0, 0, 0, 0, 0, 0, 1, 1})
	plain := state{Node: "node-b", Version: version{1, 1}}
	for _, tt := range []struct {
		name string
		in   []byte
		want []state
		err  string
	}{
		{"what was encoded", good, []state{sample()}, ""},
		{"nothing", nil, nil, "unknown message format"},
		{"another product", []byte("hello"), nil, "unknown message format"},
		{"a format of the future is ignored", append([]byte{magic, 2}, good[2:]...), nil, "unknown message format"},
		{"no states", []byte{magic, format}, nil, ""},
		{"a field of the future is skipped", wrap(slices.Concat(node, ver, appendField(nil, 77, []byte("new")))), []state{plain}, ""},
		{"more in a known field is skipped", wrap(slices.Concat(node, ver, appendField(nil, tagPhase, []byte{1, 9, 9}))),
			[]state{{Node: "node-b", Version: version{1, 1}, Phase: observed.Ready}}, ""},
		{"a phase of the future is no candidate", wrap(slices.Concat(node, ver, appendField(nil, tagPhase, []byte{200}))), []state{plain}, ""},
		{"one bad state does not harm the next", wrap(node, slices.Concat(node, ver)), []state{plain}, "state 0: no version"},
		{"a bit of the future is ignored", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{1, 'e', 0xfd, 0}))),
			[]state{{Node: "node-b", Version: version{1, 1}, Interfaces: []observed.Interface{{Name: "e", Carrier: true, IPv6: true}}}}, ""},
		{"no name", wrap(ver), nil, "state 0: node name of 0 bytes"},
		{"a name that is too long", func() []byte {
			body := slices.Concat(appendField(nil, tagNode, []byte(strings.Repeat("x", 265))), ver)
			return append(binary.AppendUvarint([]byte{magic, format}, uint64(len(body))), body...)
		}(), nil, "node name of 265 bytes"},
		{"a length beyond the end", good[:len(good)-1], nil, "more than there is"},
		{"a length without an end", []byte{magic, format, 0xff}, nil, "bad length"},
		{"a version that is too short", wrap(slices.Concat(node, appendField(nil, tagVersion, []byte{1}))), nil, "version of 1 bytes"},
		{"a counter without an end", wrap(slices.Concat(node, appendField(nil, tagVersion, []byte{0, 0, 0, 0, 0, 0, 0, 1, 0xff}))), nil, "bad counter"},
		{"an interface without a name", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{0, 0, 0}))), nil, "empty name"},
		{"a truncated interface", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{4, 'e'}))), nil, "truncated name"},
		{"a prefix of no family", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{1, 'e', 0, 1, 5, 0}))), nil, "prefix of family 5"},
		{"an IPv4 prefix with 33 bits", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{1, 'e', 0, 1, 4, 33, 1, 2, 3, 4, 5}))), nil, "with 33 bits"},
		{"a truncated prefix", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{1, 'e', 0, 1, 4, 24, 1}))), nil, "truncated prefix"},
		{"too many prefixes", wrap(slices.Concat(node, ver, appendField(nil, tagInterface, []byte{1, 'e', 0, 0xff, 0x7f}))), nil, "bad number of prefixes"},
		{"a body cut in a field", append([]byte{magic, format, byte(len(body) - 2)}, body[:len(body)-2]...), nil, "field 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeMessage(tt.in)
			if diff := cmp.Diff(tt.want, got, comparable); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if tt.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestTooManyStatesAreCutOff(t *testing.T) {
	b := []byte{magic, format}
	for i := range maxStates + 1 {
		body := appendState(nil, state{Node: fmt.Sprint("n", i), Version: version{1, 1}})
		b = append(b, byte(len(body)))
		b = append(b, body...)
	}
	got, err := decodeMessage(b)
	if len(got) != maxStates || err == nil {
		t.Errorf("%d states and error %v, want %d and an error", len(got), err, maxStates)
	}
}

func TestVersionsOrder(t *testing.T) {
	old, same, later := version{1, 9}, version{1, 9}, version{1, 10}
	if !later.newer(old) || old.newer(later) || old.newer(same) || !(version{2, 0}).newer(later) {
		t.Error("versions do not order by epoch, then by counter")
	}
}

func drawInterfaces(t *rapid.T) []observed.Interface {
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		size := rapid.SampledFrom([]int{4, 16}).Draw(t, "size")
		raw := rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "raw")
		addr, _ := netip.AddrFromSlice(raw)
		return netip.PrefixFrom(addr, rapid.IntRange(0, 8*size).Draw(t, "bits"))
	})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) observed.Interface {
		return observed.Interface{
			Name:     rapid.StringMatching(`[a-z0-9.@-]{1,15}`).Draw(t, "name"),
			Prefixes: rapid.SliceOfN(prefix, 0, 5).Draw(t, "prefixes"),
			Carrier:  rapid.Bool().Draw(t, "carrier"),
			IPv4:     rapid.Bool().Draw(t, "IPv4"),
			IPv6:     rapid.Bool().Draw(t, "IPv6"),
		}
	}), 0, 8).Draw(t, "interfaces")
}

func TestAnyStateSurvivesTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := drawInterfaces(t)
		own, _ := canonical(in)
		s := state{
			Node:       rapid.StringMatching(`[a-z0-9.-]{1,253}`).Draw(t, "node"),
			Version:    version{rapid.Uint64().Draw(t, "epoch"), rapid.Uint64().Draw(t, "seq")},
			Phase:      observed.Phase(rapid.IntRange(0, int(observed.Gathering)).Draw(t, "phase")),
			Interfaces: own,
		}
		wire := appendMessage(nil, s)
		got, err := decodeMessage(wire)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]state{s}, got, comparable); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		slices.Reverse(in)
		for _, i := range in {
			slices.Reverse(i.Prefixes)
		}
		names := map[string]int{}
		for _, i := range in {
			names[i.Name]++
		}
		if len(names) == len(in) {
			again, _ := canonical(in)
			s.Interfaces = again
			if string(appendMessage(nil, s)) != string(wire) {
				t.Fatal("another order of the input gave another encoding")
			}
		}
	})
}

func TestCanonicalBoundsWhatIsSent(t *testing.T) {
	var many []observed.Interface
	for i := range maxInterfaces + 5 {
		many = append(many, observed.Interface{Name: fmt.Sprintf("eth%04d", i)})
	}
	own, dropped := canonical(many)
	if len(own) != maxInterfaces || dropped != 5 {
		t.Errorf("%d interfaces, %d dropped, want %d and 5", len(own), dropped, maxInterfaces)
	}
	for i := range many {
		for p := range maxPrefixes {
			many[i].Prefixes = append(many[i].Prefixes, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, byte(i >> 8), byte(i), 15: byte(p)}), 128))
		}
	}
	own, dropped = canonical(many)
	if size := len(appendState(nil, state{Node: strings.Repeat("n", maxNodeName), Interfaces: own})); size > maxStateSize || dropped == 0 || len(own) == 0 {
		t.Errorf("state of %d bytes, %d interfaces, %d dropped: want at most %d bytes", size, len(own), dropped, maxStateSize)
	}
}

func TestCanonicalCleansUp(t *testing.T) {
	own, dropped := canonical([]observed.Interface{
		{Name: "eth1"},
		{Name: ""},
		{Name: "eth0", Prefixes: append(prefixes("10.0.0.7/24", "10.0.0.0/24", "::ffff:192.0.2.1/120", "::ffff:0:0/90"), netip.Prefix{})},
	})
	want := []observed.Interface{{Name: "eth0", Prefixes: prefixes("10.0.0.0/24", "192.0.2.0/24")}, {Name: "eth1"}}
	if diff := cmp.Diff(want, own, comparable); diff != "" || dropped != 1 {
		t.Errorf("%d dropped, (-want +got):\n%s", dropped, diff)
	}
}

func TestMetadata(t *testing.T) {
	full := meta{Version: version{1 << 60, 7}, Phase: observed.Draining}
	for i := range maxMetaKeys {
		full.Keys = append(full.Keys, keyID{byte(i)})
	}
	b := appendMeta(nil, full)
	if len(b) > memberlist.MetaMaxSize {
		t.Errorf("metadata of %d bytes, memberlist panics above %d", len(b), memberlist.MetaMaxSize)
	}
	got, err := decodeMeta(b)
	if diff := cmp.Diff(full, got); diff != "" || err != nil {
		t.Errorf("error %v, (-want +got):\n%s", err, diff)
	}
	if got, err := decodeMeta(append(b, "of a later version"...)); err != nil || !cmp.Equal(full, got) {
		t.Errorf("more bytes: %v, %v", got, err)
	}
	if _, err := decodeMeta([]byte("other")); !errors.Is(err, errFormat) {
		t.Errorf("another product: %v, want %v", err, errFormat)
	}
	for n := range b {
		if _, err := decodeMeta(b[:n]); err == nil {
			t.Errorf("cut at %d of %d bytes: no error", n, len(b))
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	f.Add(appendMessage(nil, sample(), state{Node: "b", Version: version{1, 1}}))
	f.Add([]byte{magic, format, 3, 1, 1, 'n'})
	f.Fuzz(func(t *testing.T, b []byte) {
		states, _ := decodeMessage(b)
		for _, s := range states {
			own, dropped := canonical(s.Interfaces)
			if dropped > 0 {
				continue
			}
			s.Interfaces = own
			again, err := decodeMessage(appendMessage(nil, s))
			if err != nil || len(again) != 1 || !cmp.Equal(s, again[0], comparable) {
				t.Fatalf("what was read does not survive: %v, %v", err, cmp.Diff(s, again, comparable))
			}
		}
	})
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(appendMeta(nil, meta{Version: version{1, 2}, Phase: observed.Ready, Keys: []keyID{{1}, {2}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		if again, err := decodeMeta(appendMeta(nil, m)); err != nil || !cmp.Equal(m, again) {
			t.Fatalf("what was read does not survive: %v, %v", err, cmp.Diff(m, again))
		}
	})
}
