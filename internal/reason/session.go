package reason

// Reasons of BGP and BFD sessions: why one is not there, or not as asked.
const (
	SecretMissing     Reason = "SecretMissing"
	SecretInvalid     Reason = "SecretInvalid"
	BFDProfilesDiffer Reason = "BFDProfilesDiffer"
)

var session = []Entry{
	{SecretMissing, "The Secret that the object names does not exist in Herald's namespace.", "Create the Secret, of type kubernetes.io/basic-auth with the key password, or correct its name."},
	{SecretInvalid, "The Secret that the object names holds no usable key.", "Use a Secret of type kubernetes.io/basic-auth with the key password: up to 80 bytes for BGP, up to 20 for BFD."},
	{BFDProfilesDiffer, "Two BGPPeers share one BFD session and ask for different parameters; the faster ones apply.", "Give both peers the same bfdProfile."},
}
