package config

import (
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/api/v1beta2"
)

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
			return time.Duration(number(field, value, 10, 60000, standard)) * time.Millisecond
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
		if ok {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *BFDProfile) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func isTrue(b *bool) bool { return b != nil && *b }

// checkEcho switches the echo function off for peers that IPv6 addresses are
// announced to. Their copy of the profile says so.
func (c *compiler) checkEcho(peers []*Peer, pools []*Pool) {
	objects := map[string]*v1beta2.BGPPeer{}
	for i := range c.objects.Peers {
		objects[c.objects.Peers[i].Name] = &c.objects.Peers[i]
	}
	for _, peer := range peers {
		if peer.BFD == nil || !peer.BFD.EchoMode {
			continue
		}
		pool := announcesIPv6(pools, peer.Name)
		if pool == "" {
			continue
		}
		c.about("BGPPeer", objects[peer.Name]).errorf("spec.bfdProfile",
			"BFDProfile %q has echoMode, and the IPv6 addresses of pool %q are announced to this peer: expected a profile without echoMode, or IPv4 pools only; echo is not used",
			peer.BFD.Name, pool)
		quiet := *peer.BFD
		quiet.EchoMode = false
		peer.BFD = &quiet
	}
}

// announcesIPv6 returns the first pool whose IPv6 addresses go to the peer.
func announcesIPv6(pools []*Pool, peer string) string {
	for _, p := range pools {
		if !p.has(ipv6) {
			continue
		}
		for _, ad := range p.BGP {
			if len(ad.Peers) == 0 || slices.Contains(ad.Peers, peer) {
				return p.Name
			}
		}
	}
	return ""
}
