package config

import (
	"time"

	"github.com/heraldlb/herald/api/v1beta2"
)

// maxTimer is the longest BGP hold time: the OPEN message has 2 octets for the
// seconds (RFC 4271, section 4.2).
const maxTimer = 65535 * time.Second

// peerTimers resolves the three timers. Of hold and keepalive time the one
// that is unset follows from the other; with both unset both stay so.
func (r report) peerTimers(p *Peer, spec *v1beta2.BGPPeerSpec) bool {
	ok := true
	if t := spec.ConnectTime; t != nil {
		if t.Duration < time.Second || t.Duration > maxTimer || t.Duration%time.Second != 0 {
			r.errorf("spec.connectTime", "invalid connect time %q: expected whole seconds between 1s and 65535s", t.Duration)
			ok = false
		}
		p.ConnectTime = &t.Duration
	}
	if spec.HoldTime == nil && spec.KeepaliveTime == nil {
		return ok
	}
	var hold, keepalive time.Duration
	field := "spec.holdTime"
	switch {
	case spec.KeepaliveTime == nil:
		hold = spec.HoldTime.Duration
		keepalive = hold / 3
	case spec.HoldTime == nil:
		field = "spec.keepaliveTime"
		keepalive = spec.KeepaliveTime.Duration
		hold = 3 * min(keepalive, maxTimer)
	default:
		hold, keepalive = spec.HoldTime.Duration, spec.KeepaliveTime.Duration
		if keepalive > hold {
			r.errorf("spec.keepaliveTime", "invalid keepaliveTime %q: must be lower than or equal to holdTime %q: expected at most the hold time", keepalive, hold)
			ok = false
		}
	}
	// RFC 4271, section 4.2: "The Hold Time MUST be either zero or at least
	// three seconds."
	switch seconds := hold / time.Second; {
	case hold < 0 || keepalive < 0 || (seconds != 0 && seconds < 3):
		r.errorf(field, "invalid hold time %q: must be 0 or >=3s: expected 0s or at least 3s", hold)
		return false
	case hold > maxTimer:
		r.warnf(field, "hold time %q is longer than BGP can say: expected at most 65535s, which is used", hold)
		hold, keepalive = maxTimer, min(keepalive, maxTimer/3)
	case hold > 0 && seconds == 0:
		r.warnf(field, "hold time %q is less than a second and counts as 0s: expected 0s or at least 3s", hold)
		hold, keepalive = 0, 0
	}
	p.HoldTime, p.KeepaliveTime = &hold, &keepalive
	return ok
}
