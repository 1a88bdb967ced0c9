package reason

// Reasons of BGP and BFD sessions: why one is not there, or not as asked.
const (
	SecretMissing        Reason = "SecretMissing"
	SecretInvalid        Reason = "SecretInvalid"
	BFDProfilesDiffer    Reason = "BFDProfilesDiffer"
	SessionStarting      Reason = "SessionStarting"
	PeerAwaited          Reason = "PeerAwaited"
	PeerRefuses          Reason = "PeerRefuses"
	PeerUnreachable      Reason = "PeerUnreachable"
	PeerSilent           Reason = "PeerSilent"
	PeerASNDiffers       Reason = "PeerASNDiffers"
	PeerFamiliesDiffer   Reason = "PeerFamiliesDiffer"
	PeerNotification     Reason = "PeerNotification"
	PeerMessageInvalid   Reason = "PeerMessageInvalid"
	PeerHungUp           Reason = "PeerHungUp"
	PeerInterfaceMissing Reason = "PeerInterfaceMissing"
	SourceAddressMissing Reason = "SourceAddressMissing"
	NeighborUnknown      Reason = "NeighborUnknown"
	HoldTimerExpired     Reason = "HoldTimerExpired"
	BFDSaysDown          Reason = "BFDSaysDown"
	SessionStopped       Reason = "SessionStopped"
	PortTaken            Reason = "PortTaken"
	PortForbidden        Reason = "PortForbidden"
	BGPFailed            Reason = "BGPFailed"
)

var session = []Entry{
	{SecretMissing, "The Secret that the object names does not exist in Herald's namespace.", "Create the Secret, of type kubernetes.io/basic-auth with the key password, or correct its name."},
	{SecretInvalid, "The Secret that the object names holds no usable key.", "Use a Secret of type kubernetes.io/basic-auth with the key password: up to 80 bytes for BGP, up to 20 for BFD."},
	{BFDProfilesDiffer, "Two BGPPeers share one BFD session and ask for different parameters; the faster ones apply.", "Give both peers the same bfdProfile."},
	{SessionStarting, "The session is being set up.", ""},
	{PeerAwaited, "The peer is passive or dynamic here, and has not dialled yet.", "See that the router dials this node on TCP port 179, from the peer's address or prefix."},
	{PeerRefuses, "The peer's address refuses TCP connections to the BGP port.", "Start BGP on the router, or correct peerAddress and peerPort."},
	{PeerUnreachable, "The network says that there is no way to the peer.", "Check the node's routes and interfaces; a peer of another AS that is several hops away needs ebgpMultiHop."},
	{PeerSilent, "The peer does not answer.", "Check that the router knows this node as a neighbour, that both have the same password, and that no filter drops TCP port 179."},
	{PeerASNDiffers, "The peer belongs to another AS than configured.", "Correct peerASN or dynamicASN, or the router's configuration."},
	{PeerFamiliesDiffer, "The peer offers none of the address families that the session is for.", "Activate IPv4 or IPv6 unicast for this node on the router, or correct disableMP."},
	{PeerNotification, "The peer ended or refused the session with a NOTIFICATION.", "Read the message: it is the router's own word."},
	{PeerMessageInvalid, "The peer sent what BGP does not allow, and the session was ended for it.", "Look for a software error of the router."},
	{PeerHungUp, "The peer closed the connection without a NOTIFICATION.", "Read the router's log: often it does not know this node as a neighbour."},
	{PeerInterfaceMissing, "The node does not have the interface or VRF device that the BGPPeer names.", "Correct interface or vrf of the BGPPeer, or restrict it by nodeSelectors."},
	{SourceAddressMissing, "The node does not have the sourceAddress of the BGPPeer.", "Correct sourceAddress, or restrict the BGPPeer by nodeSelectors."},
	{NeighborUnknown, "No router, or more than one, was found on the interface of an unnumbered peer.", "Let exactly one router on the link send router advertisements."},
	{HoldTimerExpired, "The peer was silent for longer than the hold time.", "Check the path to the peer and the router's load."},
	{BFDSaysDown, "BFD says that the peer is not reachable; the session waits until it is.", "Check the path to the peer."},
	{SessionStopped, "The session was ended by this node.", ""},
	{PortTaken, "A passive peer needs TCP port 179, and another program of the node listens there.", "Move the other BGP daemon to another port or address, or let Herald dial: remove passiveMode, or use peerAddress in place of peerPrefix."},
	{PortForbidden, "A passive peer needs TCP port 179, and the speaker may not listen there.", "Give the speaker the capability NET_BIND_SERVICE (config/overlays/bgp-passive), or let Herald dial: remove passiveMode, or use peerAddress in place of peerPrefix."},
	{BGPFailed, "The BGP engine failed.", "Read the speaker's log."},
}
