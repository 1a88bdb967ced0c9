package config

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/heraldlb/herald/api/v1beta2"
)

// defaultBGPPort is the TCP port of BGP (RFC 4271, section 8).
const defaultBGPPort = 179

// placedPeer is a peer and the nodes that open its session.
type placedPeer struct {
	*Peer
	nodes nodeSet
}

// peers compiles the usable BGPPeers, in name order.
func (c *compiler) peers(profiles []*BFDProfile) []*Peer {
	var placed []placedPeer
	for _, o := range byAge(c.objects.Peers) {
		r := c.about("BGPPeer", o)
		peer := r.peer(o, profiles)
		if peer == nil {
			continue
		}
		p := placedPeer{Peer: peer, nodes: c.nodeSet(peer.NodeSelectors)}
		if !r.collides(p, placed) {
			placed = append(placed, p)
		}
	}
	var out []*Peer
	for _, p := range placed {
		out = append(out, p.Peer)
	}
	slices.SortStableFunc(out, func(a, b *Peer) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// peer compiles one object by itself; nil if no session can be made of it.
func (r report) peer(o *v1beta2.BGPPeer, profiles []*BFDProfile) *Peer {
	spec := &o.Spec
	p := &Peer{
		Name:            o.Name,
		MyASN:           spec.MyASN,
		PeerASN:         spec.ASN,
		LocalASN:        spec.LocalASN,
		Interface:       spec.Interface,
		Port:            spec.Port,
		RouterID:        r.routerID(spec.RouterID),
		Password:        spec.Password,
		PasswordSecret:  spec.PasswordSecret.Name,
		GracefulRestart: spec.EnableGracefulRestart,
		EBGPMultiHop:    spec.EBGPMultiHop,
		VRF:             spec.VRFName,
		DualStack:       spec.DualStackAddressFamily,
		TTLSecurity:     spec.TTLSecurity,
		// Nobody can dial a whole prefix.
		Passive: spec.PassiveMode || spec.Prefix != "",
	}
	if p.Port == 0 {
		p.Port = defaultBGPPort
	}
	p.NodeSelectors, _ = r.selectors("spec.nodeSelectors", spec.NodeSelectors)
	p.BFD = r.bfdProfile(spec.BFDProfile, profiles)
	r.checkEcho(p)

	// Each check reports by itself, so that the user sees all at once.
	ok := r.peerASN(p, spec)
	ok = r.peerAddress(p, spec) && ok
	ok = r.peerTimers(p, spec) && ok
	if p.TTLSecurity && p.EBGPMultiHop {
		r.errorf("spec.ttlSecurity", "both ttlSecurity and ebgpMultiHop specified: expected at most one of them, since ttlSecurity demands a peer that is one hop away")
		ok = false
	}
	if p.Password != "" && p.PasswordSecret != "" {
		r.errorf("spec.passwordSecret", "both password and passwordSecret specified: expected at most one of them")
		ok = false
	}
	if !ok {
		return nil
	}
	return p
}

func (r report) peerASN(p *Peer, spec *v1beta2.BGPPeerSpec) bool {
	ok := true
	if spec.MyASN == 0 {
		r.errorf("spec.myASN", "missing local ASN: expected myASN between 1 and 4294967295")
		ok = false
	}
	switch spec.DynamicASN {
	case "":
		if spec.ASN == 0 {
			r.errorf("spec.peerASN", "missing peer ASN and dynamicASN: expected exactly one of peerASN and dynamicASN")
			ok = false
		}
	case v1beta2.InternalASN:
		p.Dynamic = InternalASN
	case v1beta2.ExternalASN:
		p.Dynamic = ExternalASN
	default:
		r.errorf("spec.dynamicASN", "invalid dynamicASN %q: expected internal or external", string(spec.DynamicASN))
		ok = false
	}
	if spec.ASN != 0 && spec.DynamicASN != "" {
		r.errorf("spec.dynamicASN", "both peer ASN and dynamicASN specified: expected exactly one of peerASN and dynamicASN")
		ok = false
	}
	if spec.EBGPMultiHop && spec.ASN != 0 && spec.ASN == spec.MyASN {
		r.errorf("spec.ebgpMultiHop", "invalid ebgp-multihop parameter set for an ibgp peer: expected ebgpMultiHop false where peerASN equals myASN")
		ok = false
	}
	return ok
}

func (r report) peerAddress(p *Peer, spec *v1beta2.BGPPeerSpec) bool {
	ok := true
	switch given := given(spec.Address, spec.Interface, spec.Prefix); {
	case given == 0:
		r.errorf("spec.peerAddress", "invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found none")
		ok = false
	case given > 1:
		r.errorf("spec.peerAddress", "invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found more than one")
		ok = false
	case spec.Address != "":
		p.Address, ok = r.address("spec.peerAddress", "BGPPeer address", spec.Address)
	case spec.Prefix != "":
		p.Prefix, ok = r.prefix("spec.peerPrefix", spec.Prefix)
	}
	if spec.SrcAddress != "" {
		source, sound := r.address("spec.sourceAddress", "source address", spec.SrcAddress)
		p.Source, ok = source, ok && sound
	}
	return ok
}

// given counts the texts that are not empty.
func given(texts ...string) int {
	n := 0
	for _, text := range texts {
		if text != "" {
			n++
		}
	}
	return n
}

// linkLocal are the addresses that say nothing without an interface.
var linkLocal = netip.MustParsePrefix("fe80::/10")

// prefix reads where dynamic neighbours dial from.
func (r report) prefix(field, text string) (netip.Prefix, bool) {
	p, err := parseCIDR(text)
	switch {
	case err != nil:
		r.errorf(field, "invalid BGPPeer prefix %q: expected a CIDR such as 192.168.10.0/24", text)
	case linkLocal.Overlaps(p) && p.Bits() >= linkLocal.Bits():
		r.errorf(field, "invalid BGPPeer prefix %q: link-local addresses exist on every interface: expected another prefix, or the field interface in its place", text)
	default:
		return p, true
	}
	return netip.Prefix{}, false
}

func (r report) address(field, what, text string) (netip.Addr, bool) {
	a, err := parseAddr(text)
	if err != nil {
		r.errorf(field, "invalid %s %q: expected an IP address without a zone", what, text)
		return netip.Addr{}, false
	}
	return a, true
}

// routerID reads the router ID. A peer is usable without it, so what cannot be
// one is left out. RFC 4271, section 4.2: it is a 4-octet number, "set to the
// value of an IP address assigned to that BGP speaker".
func (r report) routerID(text string) netip.Addr {
	if text == "" {
		return netip.Addr{}
	}
	a, err := parseAddr(text)
	if err != nil || !a.Is4() {
		r.errorf("spec.routerID", "invalid router ID %q: expected an IPv4 address", text)
		return netip.Addr{}
	}
	return a
}

// bfdProfile finds the profile by name. A session is worth having without BFD
// too, so a missing profile does not end it.
func (r report) bfdProfile(name string, profiles []*BFDProfile) *BFDProfile {
	if name == "" {
		return nil
	}
	for _, p := range profiles {
		if p.Name == name {
			return p
		}
	}
	r.errorf("spec.bfdProfile", "there is no usable BFDProfile %q: expected the name of an existing profile; the session runs without BFD", name)
	return nil
}
