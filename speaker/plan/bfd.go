package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
)

// singleHopTTL is the only TTL at which a single-hop packet is taken (RFC 5881,
// section 5).
const singleHopTTL = 255

// BFDSessions returns the BFD sessions that watch the peers of a node, and what
// could not be as it was asked for. What was reached tells whether BFD may watch
// a peer, see observed.Session, and the address of a peer where the configuration
// does not say it. Sessions are in the order of the peers' names.
//
// There is one BFD session for each pair of systems. If two peers ask for
// different ones, each parameter takes the value that finds a failure sooner.
func BFDSessions(sessions []desired.Session, reached observed.BGP, links observed.Links, secrets Secrets) (desired.BFD, []desired.Refusal) {
	all := desired.BFD{}
	first := map[observed.BFDPeer]string{}
	var notes []desired.Refusal
	for _, s := range sessions {
		if s.BFD == nil {
			continue
		}
		auth, r, why := authentication(s.BFD, secrets)
		if r != "" {
			notes = append(notes, desired.Refusal{
				Peer: s.Name, Reason: r,
				Message: why + fmt.Sprintf(" BFDProfile %s cannot be used without it, so the session runs without BFD.", s.BFD.Name),
			})
			continue
		}
		for _, remote := range remotes(s.Peer, reached) {
			key := bfdPeer(s.Peer, remote, links)
			asked := parameters(s.BFD, key.Multihop)
			asked.Auth = auth
			have, ok := all[key]
			if !ok {
				all[key], first[key] = asked, s.Name
				continue
			}
			if have != asked {
				all[key] = sooner(have, asked)
				notes = append(notes, desired.Refusal{
					Peer: s.Name, Reason: reason.BFDProfilesDiffer,
					Message: fmt.Sprintf("BGPPeers %s and %s share the BFD session with %s and ask for different parameters; of each the faster one applies, and the authentication of %s.", first[key], s.Name, remote, first[key]),
				})
			}
		}
	}
	return all, notes
}

// authentication resolves the key of a profile.
func authentication(p *config.BFDProfile, secrets Secrets) (a desired.BFDAuth, r reason.Reason, why string) {
	if p.AuthSecret == "" {
		return a, "", ""
	}
	key, r, why := secrets.read(p.AuthSecret, longestBFDKey)
	if r != "" {
		return a, r, why
	}
	return desired.BFDAuth{Meticulous: p.AuthMeticulous, KeyID: p.AuthKeyID, Key: key}, "", ""
}

// remotes are the addresses of a peer that BFD may watch, with a zone if they are
// link-local.
func remotes(p *config.Peer, reached observed.BGP) (all []netip.Addr) {
	for _, s := range reached {
		switch {
		case s.Peer != p.Name || !s.Watch:
		case p.Address.IsValid():
			all = append(all, p.Address)
		case s.Remote.IsValid():
			all = append(all, s.Remote)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

// bfdPeer names the BFD session with an address of a peer.
func bfdPeer(p *config.Peer, remote netip.Addr, links observed.Links) observed.BFDPeer {
	key := observed.BFDPeer{Remote: remote.WithZone("").Unmap(), Local: p.Source.Unmap(), VRF: p.VRF}
	if key.Remote.IsLinkLocalUnicast() && key.Remote.Is6() {
		// A link-local address means something on its link only.
		if key.Interface = p.Interface; key.Interface == "" {
			key.Interface = remote.Zone()
		}
		return key
	}
	key.Multihop = multihop(p, key.Remote, links)
	return key
}

// multihop tells whether packets to a peer may be forwarded on their way. An
// eBGP peer is directly connected unless its object says otherwise; an iBGP
// peer is where its address is on a link of this node.
func multihop(p *config.Peer, remote netip.Addr, links observed.Links) bool {
	internal := p.Dynamic == config.InternalASN || p.Dynamic == config.FixedASN && p.PeerASN == p.MyASN
	if !internal || p.EBGPMultiHop {
		return p.EBGPMultiHop
	}
	return !slices.ContainsFunc(links, func(l observed.Link) bool {
		return vrfOf(l, links) == p.VRF &&
			slices.ContainsFunc(l.Prefixes, func(on netip.Prefix) bool { return on.Contains(remote) })
	})
}

// vrfOf is the name of the VRF that an interface belongs to, "" for none.
func vrfOf(l observed.Link, links observed.Links) string {
	if l.MasterKind != "vrf" {
		return ""
	}
	for _, m := range links {
		if m.Index == l.Master {
			return m.Name
		}
	}
	return ""
}

// parameters are what a profile asks for.
func parameters(p *config.BFDProfile, multihop bool) desired.BFDParameters {
	b := desired.BFDParameters{
		TransmitInterval: p.TransmitInterval,
		ReceiveInterval:  p.ReceiveInterval,
		DetectMultiplier: p.DetectMultiplier,
		Passive:          p.PassiveMode,
		MinimumTTL:       singleHopTTL,
	}
	if multihop {
		// RFC 5883, section 3: there is no echo over several hops.
		b.MinimumTTL = p.MinimumTTL
	} else if p.EchoMode {
		b.Echo, b.EchoInterval = true, p.EchoInterval
	}
	return b
}

// sooner takes of each parameter the one that finds a failure sooner, or lets
// less in. The authentication stays that of a.
func sooner(a, b desired.BFDParameters) desired.BFDParameters {
	a.TransmitInterval = min(a.TransmitInterval, b.TransmitInterval)
	a.ReceiveInterval = min(a.ReceiveInterval, b.ReceiveInterval)
	a.DetectMultiplier = min(a.DetectMultiplier, b.DetectMultiplier)
	a.Echo = a.Echo || b.Echo
	a.EchoInterval = shorter(a.EchoInterval, b.EchoInterval)
	a.Passive = a.Passive && b.Passive
	a.MinimumTTL = max(a.MinimumTTL, b.MinimumTTL)
	return a
}

// shorter is the shorter of two intervals, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
