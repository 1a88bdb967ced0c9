package bfd_test

import (
	"errors"
	"testing"
	"time"

	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/desired"
)

func signed(key string, meticulous bool) bfd.Parameters {
	p := every(100*ms, 3)
	p.Auth = desired.BFDAuth{Key: key, KeyID: 1, Meticulous: meticulous}
	return p
}

// hears gives a session a packet from a peer that signs with p.
func hears(s *bfd.Session, now time.Time, p bfd.Packet, key string) error {
	raw := p.Append(nil, key)
	var got bfd.Packet
	if err := bfd.Decode(raw, &got); err != nil {
		return err
	}
	return s.Step(now, bfd.Event{Kind: bfd.Received, Packet: &got, Raw: raw}).Refused
}

func down(auth bfd.Auth) bfd.Packet {
	return bfd.Packet{State: bfd.Down, DetectMultiplier: 3, My: 9, DesiredMinTx: time.Second, RequiredMinRx: 100 * ms, Auth: auth}
}

func TestAuthentication(t *testing.T) {
	keyed := func(id uint8, seq uint32) bfd.Auth { return bfd.Auth{Type: bfd.KeyedSHA1, KeyID: id, Sequence: seq} }
	meticulous := func(seq uint32) bfd.Auth { return bfd.Auth{Type: bfd.MeticulousKeyedSHA1, KeyID: 1, Sequence: seq} }
	type packet struct {
		auth bfd.Auth
		key  string
		want error
	}
	for _, tt := range []struct {
		name   string
		params bfd.Parameters
		heard  []packet
	}{
		{"no key, no section", every(100*ms, 3), []packet{{bfd.Auth{}, "", nil}}},
		{"no key, a section", every(100*ms, 3), []packet{{keyed(1, 5), "secret", bfd.ErrAuthExtra}}},
		{"a key, no section", signed("secret", false), []packet{{bfd.Auth{}, "", bfd.ErrAuthMissing}}},
		{"the other kind", signed("secret", false), []packet{{meticulous(5), "secret", bfd.ErrAuthType}}},
		{"another key ID", signed("secret", false), []packet{{keyed(2, 5), "secret", bfd.ErrAuthKey}}},
		{"another key", signed("secret", false), []packet{{keyed(1, 5), "Secret", bfd.ErrAuthDigest}}},
		{"the longest key", signed("12345678901234567890", false), []packet{{keyed(1, 5), "12345678901234567890", nil}}},
		{"a refused packet does not move the window", signed("secret", false),
			[]packet{{keyed(1, 5), "secret", nil}, {keyed(1, 9), "wrong", bfd.ErrAuthDigest}, {keyed(1, 5), "secret", nil}}},
		{"keyed: the same number, and 3 times the multiplier ahead", signed("secret", false),
			[]packet{{keyed(1, 5), "secret", nil}, {keyed(1, 5), "secret", nil}, {keyed(1, 14), "secret", nil}}},
		{"keyed: too far ahead", signed("secret", false),
			[]packet{{keyed(1, 5), "secret", nil}, {keyed(1, 15), "secret", bfd.ErrAuthSequence}}},
		{"keyed: an old number", signed("secret", false),
			[]packet{{keyed(1, 5), "secret", nil}, {keyed(1, 4), "secret", bfd.ErrAuthSequence}}},
		{"meticulous: a number twice", signed("secret", true),
			[]packet{{meticulous(5), "secret", nil}, {meticulous(5), "secret", bfd.ErrAuthSequence}, {meticulous(6), "secret", nil}}},
		{"meticulous: around zero", signed("secret", true),
			[]packet{{meticulous(1<<32 - 1), "secret", nil}, {meticulous(0), "secret", nil}, {meticulous(1<<32 - 1), "secret", bfd.ErrAuthSequence}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := bfd.New(begin, bfd.Config{Discriminator: 1}, tt.params)
			for i, p := range tt.heard {
				if err := hears(s, begin, down(p.auth), p.key); !errors.Is(err, p.want) {
					t.Errorf("packet %d: %v, want %v", i, err, p.want)
				}
			}
		})
	}
}

// RFC 5880, section 6.8.1: the sequence is forgotten after twice the detection
// time, so that a peer that was restarted is heard again.
func TestSequenceIsForgotten(t *testing.T) {
	s := bfd.New(begin, bfd.Config{Discriminator: 1}, signed("secret", true))
	auth := bfd.Auth{Type: bfd.MeticulousKeyedSHA1, KeyID: 1, Sequence: 1000}
	if err := hears(s, begin, down(auth), "secret"); err != nil {
		t.Fatal(err)
	}
	// The detection time is 3 s.
	auth.Sequence = 1
	for _, tt := range []struct {
		after time.Duration
		want  error
	}{{2 * time.Second, bfd.ErrAuthSequence}, {5999 * ms, bfd.ErrAuthSequence}, {6 * time.Second, nil}} {
		now := begin.Add(tt.after)
		s.Step(now, bfd.Event{Kind: bfd.Tick})
		if err := hears(s, now, down(auth), "secret"); !errors.Is(err, tt.want) {
			t.Errorf("after %s: %v, want %v", tt.after, err, tt.want)
		}
	}
}

func TestSignedSessionsComeUpAndSurviveLoss(t *testing.T) {
	for _, meticulous := range []bool{false, true} {
		w := newWire(signed("secret", meticulous), signed("secret", meticulous))
		n := 0
		w.lose = func(int) bool { n++; return n%3 == 0 }
		w.run(2 * time.Minute)
		w.want(t, "Up Up")
		w.set(0, signed("other", meticulous))
		w.run(2 * time.Second)
		if got := w.states(); got == "Up Up" {
			t.Error("sessions with different keys are Up")
		}
		w.set(1, signed("other", meticulous))
		w.run(30 * time.Second)
		w.want(t, "Up Up")
	}
}
