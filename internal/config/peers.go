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
	}
	if p.Port == 0 {
		p.Port = defaultBGPPort
	}
	p.NodeSelectors, _ = r.selectors("spec.nodeSelectors", spec.NodeSelectors)
	p.BFD = r.bfdProfile(spec.BFDProfile, profiles)

	// Each check reports by itself, so that the user sees all at once.
	ok := r.peerASN(p, spec)
	ok = r.peerAddress(p, spec) && ok
	ok = r.peerTimers(p, spec) && ok
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
	switch {
	case spec.Address == "" && spec.Interface == "":
		r.errorf("spec.peerAddress", "invalid BGPPeer address: expected exactly one of peerAddress and interface, found neither")
		ok = false
	case spec.Address != "" && spec.Interface != "":
		r.errorf("spec.peerAddress", "invalid BGPPeer address: expected exactly one of peerAddress and interface, found both")
		ok = false
	case spec.Address != "":
		if p.Address, ok = r.address("spec.peerAddress", "BGPPeer address", spec.Address); !ok {
			return false
		}
	}
	if spec.SrcAddress != "" {
		source, sound := r.address("spec.sourceAddress", "source address", spec.SrcAddress)
		p.Source, ok = source, ok && sound
	}
	return ok
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

// collides reports what p and the older peers cannot be at once on a node that
// may have both. It returns true if p is to be left out.
//
// That all peers of a node share one router ID and one AS is a rule of the
// routing daemon under MetalLB, not of ours: sessions are independent here, so
// it is worth a warning and no more, and one of each kind is enough.
func (r report) collides(p placedPeer, older []placedPeer) bool {
	var otherID, otherAS string
	for _, o := range older {
		same := p.Address == o.Address && p.Interface == o.Interface && p.Port == o.Port && p.VRF == o.VRF
		differs := p.RouterID != o.RouterID || (p.MyASN != o.MyASN && p.VRF == o.VRF)
		if !(same || differs) || !p.nodes.mayMeet(o.nodes) {
			continue
		}
		if same {
			r.errorf("spec.peerAddress", "BGPPeer %q has the same address, port and VRF, and Herald doesn't support duplicate BGPPeers selecting the same node: expected node selectors that have no node in common", o.Name)
			return true
		}
		if p.RouterID != o.RouterID && otherID == "" {
			otherID = o.Name
		}
		if p.MyASN != o.MyASN && p.VRF == o.VRF && otherAS == "" {
			otherAS = o.Name
		}
	}
	if otherID != "" {
		r.warnf("spec.routerID", "BGPPeer %q, which selects the same node, has another routerID: BGPPeers of one node must all have the same RouterID where one router sees both sessions", otherID)
	}
	if otherAS != "" {
		r.warnf("spec.myASN", "BGPPeer %q, which selects the same node, has another myASN: BGPPeers of one node must have the same myAsn within the same VRF where one router sees both sessions", otherAS)
	}
	return false
}
