package reason

// Reasons of BFD sessions: why one is not up.
const (
	BFDNeverUp              Reason = "BFDNeverUp"
	BFDDetectionTimeExpired Reason = "BFDDetectionTimeExpired"
	BFDEchoFailed           Reason = "BFDEchoFailed"
	BFDNeighborSignaledDown Reason = "BFDNeighborSignaledDown"
	BFDAdminDown            Reason = "BFDAdminDown"
	BFDPortInUse            Reason = "BFDPortInUse"
	BFDSocketFailed         Reason = "BFDSocketFailed"
)

var bfd = []Entry{
	{BFDNeverUp, "The BFD session has not been up yet, so it says nothing of the peer.", "Configure BFD for this node's address on the peer, of the same kind (single hop or multihop) and with the same key, and let UDP port 3784 or 4784 through."},
	{BFDDetectionTimeExpired, "Nothing was heard of the peer for the detection time of the BFD session.", "Check the peer and the way to it; if it was there, use longer intervals."},
	{BFDEchoFailed, "The BFD echo packets did not come back from the peer.", "Check the peer and the way to it, and that it forwards packets back to where they came from."},
	{BFDNeighborSignaledDown, "The peer took the BFD session down.", "Read the message and the peer's log: most often it heard nothing of this node."},
	{BFDAdminDown, "The peer switched BFD off for this session, which is no failure.", "Nothing, or switch it on again on the peer."},
	{BFDPortInUse, "Another program on the node has the UDP port of BFD, so no BFD session can run.", "Stop BFD in that program, a routing daemon or a network plug-in, or remove bfdProfile from the BGPPeers of this node."},
	{BFDSocketFailed, "The node cannot send BFD packets to the peer.", "Read the message: most often there is no route to the peer, or the source address or the interface does not exist."},
}
