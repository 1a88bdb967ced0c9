package config

import (
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/api/v1beta1"
)

// shortestInterval is the interval that a speaker holds on a busy machine.
const shortestInterval = 50 * time.Millisecond

// bfdProfiles compiles the BFDProfiles, in name order. The defaults are those
// of the daemon that MetalLB's users are used to.
func (c *compiler) bfdProfiles() []*BFDProfile {
	var out []*BFDProfile
	for _, o := range byAge(c.objects.BFDProfiles) {
		r := c.about("BFDProfile", o)
		spec := &o.Spec
		ok := true
		number := func(field string, value *uint32, low, high, standard uint32) uint32 {
			if value == nil {
				return standard
			}
			if *value < low || *value > high {
				r.errorf("spec."+field, "invalid %s %d: expected a number from %d to %d", field, *value, low, high)
				ok = false
			}
			return *value
		}
		millis := func(field string, value *uint32, standard uint32) time.Duration {
			d := time.Duration(number(field, value, 10, 60000, standard)) * time.Millisecond
			// What is out of range is reported as that.
			if ok && d < shortestInterval {
				r.errorf("spec."+field, "%s %d is too short for a process that shares the machine with others, which would call a peer dead that is not: expected at least %d, which is used",
					field, d.Milliseconds(), shortestInterval.Milliseconds())
				d = shortestInterval
			}
			return d
		}
		p := &BFDProfile{
			Name:             o.Name,
			ReceiveInterval:  millis("receiveInterval", spec.ReceiveInterval, 300),
			TransmitInterval: millis("transmitInterval", spec.TransmitInterval, 300),
			DetectMultiplier: uint8(number("detectMultiplier", spec.DetectMultiplier, 2, 255, 3)),
			EchoInterval:     millis("echoInterval", spec.EchoInterval, 50),
			EchoMode:         isTrue(spec.EchoMode),
			PassiveMode:      isTrue(spec.PassiveMode),
			MinimumTTL:       uint8(number("minimumTtl", spec.MinimumTTL, 1, 254, 254)),
		}
		if r.authentication(p, spec.Authentication) && ok {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *BFDProfile) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func isTrue(b *bool) bool { return b != nil && *b }

// authentication fills the authentication of p. It returns false if what is
// asked for cannot be: packets without it would be refused by the peer, or
// accepted from anybody.
func (r report) authentication(p *BFDProfile, auth *v1beta1.BFDAuthentication) bool {
	if auth == nil {
		return true
	}
	ok := true
	switch auth.Type {
	case v1beta1.KeyedSHA1:
	case v1beta1.MeticulousKeyedSHA1:
		p.AuthMeticulous = true
	default:
		r.errorf("spec.authentication.type", "unknown authentication type %q: expected KeyedSHA1 or MeticulousKeyedSHA1", string(auth.Type))
		ok = false
	}
	if auth.KeyID < 0 || auth.KeyID > 255 {
		r.errorf("spec.authentication.keyID", "invalid keyID %d: expected a number from 0 to 255", auth.KeyID)
		ok = false
	}
	if auth.Secret.Name == "" {
		r.errorf("spec.authentication.secret.name", "missing Secret: expected the name of a Secret of type kubernetes.io/basic-auth")
		ok = false
	}
	p.AuthKeyID, p.AuthSecret = uint8(auth.KeyID), auth.Secret.Name
	return ok
}

// checkEcho switches the echo function off where it does not exist: RFC 5883,
// section 3: "The Echo function MUST NOT be used over multihop paths". The
// peer's copy of the profile says so.
func (r report) checkEcho(p *Peer) {
	if p.BFD == nil || !p.BFD.EchoMode || !p.EBGPMultiHop {
		return
	}
	r.warnf("spec.bfdProfile", "BFDProfile %q has echoMode, which does not exist on multi-hop sessions: expected a profile without echoMode, or ebgpMultiHop false; echo is not used", p.BFD.Name)
	quiet := *p.BFD
	quiet.EchoMode = false
	p.BFD = &quiet
}
