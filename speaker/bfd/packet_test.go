package bfd_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/speaker/bfd"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPacketsOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		name, wire, key string
		packet          bfd.Packet
	}{{
		name:   "down, knows nobody",
		wire:   "20 40 03 18 00000001 00000000 000f4240 000493e0 00000000",
		packet: bfd.Packet{State: bfd.Down, DetectMultiplier: 3, My: 1, DesiredMinTx: time.Second, RequiredMinRx: 300 * ms},
	}, {
		name:   "up, polls",
		wire:   "20 e0 05 18 deadbeef 00000007 0000c350 0000c350 00002710",
		packet: bfd.Packet{State: bfd.Up, Poll: true, DetectMultiplier: 5, My: 0xdeadbeef, Your: 7, DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms, RequiredMinEchoRx: 10 * ms},
	}, {
		name:   "down because of silence, with final, independence and demand bits",
		wire:   "21 5a 01 18 00000001 00000002 00000001 00000000 00000000",
		packet: bfd.Packet{Diag: bfd.DiagExpired, State: bfd.Down, Final: true, Independent: true, Demand: true, DetectMultiplier: 1, My: 1, Your: 2, DesiredMinTx: time.Microsecond},
	}, {
		name:   "administratively down",
		wire:   "27 00 03 18 00000001 00000002 000f4240 000f4240 00000000",
		packet: bfd.Packet{Diag: bfd.DiagAdminDown, DetectMultiplier: 3, My: 1, Your: 2, DesiredMinTx: time.Second, RequiredMinRx: time.Second},
	}, {
		name:   "signed",
		wire:   "20 44 03 34 00000001 00000000 000f4240 000f4240 00000000 05 1c 07 00 00000009 a7e1385a4c8e1a9ce04781ca6af3c64d3a7f967e",
		key:    "secret",
		packet: bfd.Packet{State: bfd.Down, DetectMultiplier: 3, My: 1, DesiredMinTx: time.Second, RequiredMinRx: time.Second, Auth: bfd.Auth{Type: bfd.MeticulousKeyedSHA1, KeyID: 7, Sequence: 9}},
	}} {
		t.Run(tt.name, func(t *testing.T) {
			wire := unhex(t, tt.wire)
			if diff := cmp.Diff(wire, tt.packet.Append(nil, tt.key)); diff != "" {
				t.Errorf("written (-want +got):\n%s", diff)
			}
			var got bfd.Packet
			if err := bfd.Decode(append(wire, "what follows"...), &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.packet, got); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := "20 c0 03 18 00000001 00000002 000f4240 000f4240 00000000"
	auth := "20 c4 03 34 00000001 00000002 000f4240 000f4240 00000000 04 1c 01 00 00000001" + strings.Repeat("00", 20)
	for _, tt := range []struct {
		name, wire string
		want       error
	}{
		{"nothing", "", bfd.ErrShort},
		{"23 bytes", good[:len(good)-2], bfd.ErrShort},
		{"version 0", "00" + good[2:], bfd.ErrVersion},
		{"version 2", "40" + good[2:], bfd.ErrVersion},
		{"length below the header", strings.Replace(good, "18", "17", 1), bfd.ErrShort},
		{"length beyond the payload", strings.Replace(good, "18", "19", 1), bfd.ErrShort},
		{"length without room for authentication", strings.Replace(good, "c0 03 18", "c4 03 19", 1) + "00", bfd.ErrShort},
		{"multiplier 0", strings.Replace(good, "03", "00", 1), bfd.ErrMultiplier},
		{"multipoint", strings.Replace(good, "c0", "c1", 1), bfd.ErrMultipoint},
		{"my discriminator 0", strings.Replace(good, "00000001", "00000000", 1), bfd.ErrMyDiscr},
		{"Up without your discriminator", strings.Replace(good, "00000002", "00000000", 1), bfd.ErrYourDiscr},
		{"Init without your discriminator", strings.Replace(strings.Replace(good, "00000002", "00000000", 1), "c0", "80", 1), bfd.ErrYourDiscr},
		{"Down without your discriminator", strings.Replace(strings.Replace(good, "00000002", "00000000", 1), "c0", "40", 1), nil},
		{"AdminDown without your discriminator", strings.Replace(strings.Replace(good, "00000002", "00000000", 1), "c0", "00", 1), nil},
		{"poll and final", strings.Replace(good, "c0", "f0", 1), bfd.ErrPollFinal},
		{"signed", auth, nil},
		{"authentication shorter than it says", strings.Replace(auth, "04 1c", "04 1d", 1), bfd.ErrAuthMalformed},
		{"authentication longer than it says", strings.Replace(auth, "04 1c", "04 1b", 1), bfd.ErrAuthMalformed},
		{"authentication of type 0", strings.Replace(auth, "04 1c", "00 1c", 1), bfd.ErrAuthMalformed},
		{"SHA1 of another length", "20 c4 03 1c 00000001 00000002 000f4240 000f4240 00000000 04 04 01 00", bfd.ErrAuthMalformed},
		{"simple password", "20 c4 03 1c 00000001 00000002 000f4240 000f4240 00000000 01 04 01 61", nil},
		{"keyed MD5", "20 c4 03 30 00000001 00000002 000f4240 000f4240 00000000 02 18 01 00 00000001" + strings.Repeat("00", 16), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p bfd.Packet
			if err := bfd.Decode(unhex(t, tt.wire), &p); !errors.Is(err, tt.want) {
				t.Errorf("Decode says %v, want %v", err, tt.want)
			}
		})
	}
}

// Whatever Decode accepts it reads as it was meant: written again, it is the
// same but for what the packet does not carry.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		"20 40 03 18 00000001 00000000 000f4240 000493e0 00000000",
		"20 e0 05 18 deadbeef 00000007 0000c350 0000c350 00002710",
		"20 44 03 34 00000001 00000000 000f4240 000f4240 00000000 05 1c 07 00 00000009" + strings.Repeat("00", 20),
		"20 c4 03 1c 00000001 00000002 000f4240 000f4240 00000000 01 04 01 61",
	} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		session := bfd.New(begin, bfd.Config{Discriminator: 2}, signed("secret", true))
		var p bfd.Packet
		if err := bfd.Decode(b, &p); err != nil {
			return
		}
		session.Step(begin, bfd.Event{Kind: bfd.Received, Packet: &p, Raw: b})
		if p.Auth.Type != bfd.NoAuth {
			return
		}
		again := p.Append(nil, "")
		again[3] = b[3] // what the length has beyond the header is ignored
		if !bytes.Equal(again, b[:24]) {
			t.Errorf("read % x, wrote % x", b[:24], again)
		}
	})
}
