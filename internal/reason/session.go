package reason

// Reasons of BGP and BFD sessions: why one is not there, or not as asked.
const (
	SecretMissing           Reason = "SecretMissing"
	SecretInvalid           Reason = "SecretInvalid"
	BFDProfilesDiffer       Reason = "BFDProfilesDiffer"
	BFDNeverUp              Reason = "BFDNeverUp"
	BFDDetectionTimeExpired Reason = "BFDDetectionTimeExpired"
	BFDEchoFailed           Reason = "BFDEchoFailed"
	BFDNeighborSignaledDown Reason = "BFDNeighborSignaledDown"
	BFDAdminDown            Reason = "BFDAdminDown"
	BFDPortInUse            Reason = "BFDPortInUse"
	BFDSocketFailed         Reason = "BFDSocketFailed"
)

var session = []Entry{
	{SecretMissing, "The Secret that the object names does not exist in Herald's namespace.", "Create the Secret, of type kubernetes.io/basic-auth with the key password, or correct its name."},
	{SecretInvalid, "The Secret that the object names holds no usable key.", "Use a Secret of type kubernetes.io/basic-auth with the key password: up to 80 bytes for BGP, up to 20 for BFD."},
	{BFDProfilesDiffer, "Two BGPPeers share one BFD session and ask for different parameters; the faster ones apply.", "Give both peers the same bfdProfile."},
	{BFDNeverUp, "The BFD session has not been up yet, so it says nothing of the peer.", "Configure BFD for this node's address on the peer, with the same kind (single hop or multihop) and key, and let UDP port 3784 or 4784 through."},
	{BFDDetectionTimeExpired, "Nothing was heard of the peer for the detection time of the BFD session.", "Check the peer and the way to it; if it was there, use longer intervals."},
	{BFDEchoFailed, "The BFD echo packets did not come back from the peer.", "Check the peer and the way to it, and that it forwards packets back to where they came from."},
	{BFDNeighborSignaledDown, "The peer took the BFD session down.", "Read the message and the peer's log: most often it heard nothing of this node."},
	{BFDAdminDown, "The peer switched BFD off for this session, which is no failure.", "Nothing, or switch it on again on the peer."},
	{BFDPortInUse, "Another program on the node has the UDP port of BFD, so no BFD session can run.", "Stop BFD in that program (a routing daemon or a network plug-in), or remove bfdProfile from the BGPPeers of this node."},
	{BFDSocketFailed, "The node cannot send BFD packets to the peer.", "Read the message: most often there is no route to the peer, or the source address or the interface does not exist."},
}
