package config

import "net/netip"

// collides reports what p and the older peers cannot be at once on a node that
// may have both. It returns true if p is to be left out.
//
// That all peers of a node share one router ID and one AS is a rule of the
// routing daemon under MetalLB, not of ours: sessions are independent here, so
// it is worth a warning and no more, and one of each kind is enough.
func (r report) collides(p placedPeer, older []placedPeer) bool {
	var otherID, otherAS string
	for _, o := range older {
		same, overlap := p.sameAs(o.Peer), p.overlaps(o.Peer)
		differs := p.RouterID != o.RouterID || (p.MyASN != o.MyASN && p.VRF == o.VRF)
		if !(same || overlap || differs) || !p.nodes.mayMeet(o.nodes) {
			continue
		}
		switch {
		case same:
			r.errorf("spec.peerAddress", "BGPPeer %q has the same address, port and VRF, and Herald doesn't support duplicate BGPPeers selecting the same node: expected node selectors that have no node in common", o.Name)
			return true
		case overlap:
			r.errorf(p.whereField(), "%s overlaps %s of BGPPeer %q, which is older, so that a neighbour could be of either: expected no address in common, other VRFs, or node selectors that have no node in common", p.where(), o.where(), o.Name)
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

// sameAs is true when two peers without a prefix mean one session. Which port a
// peer dials from is its own business, so of two passive peers the port tells
// nothing.
func (p *Peer) sameAs(o *Peer) bool {
	return !p.Prefix.IsValid() && !o.Prefix.IsValid() &&
		p.Address == o.Address && p.Interface == o.Interface && p.VRF == o.VRF &&
		(p.Port == o.Port || p.Passive && o.Passive)
}

// overlaps is true when a neighbour that dials could be of either peer, at
// least one of which has a prefix. The older one then has it all: whether the
// narrower prefix was meant as an exception nobody can tell, and a guess would
// move sessions when an object is deleted.
func (p *Peer) overlaps(o *Peer) bool {
	return (p.Prefix.IsValid() || o.Prefix.IsValid()) && p.VRF == o.VRF && p.from().Overlaps(o.from())
}

// from is where the peer dials from.
func (p *Peer) from() netip.Prefix {
	switch {
	case p.Prefix.IsValid():
		return p.Prefix
	case p.Address.IsValid():
		return netip.PrefixFrom(p.Address, p.Address.BitLen())
	}
	return linkLocal
}

func (p *Peer) where() string {
	switch {
	case p.Prefix.IsValid():
		return "peerPrefix " + p.Prefix.String()
	case p.Address.IsValid():
		return "peerAddress " + p.Address.String()
	}
	return "the link-local addresses on interface " + p.Interface
}

func (p *Peer) whereField() string {
	switch {
	case p.Prefix.IsValid():
		return "spec.peerPrefix"
	case p.Address.IsValid():
		return "spec.peerAddress"
	}
	return "spec.interface"
}
