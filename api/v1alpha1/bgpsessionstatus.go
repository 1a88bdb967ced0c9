package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPSessionStatus is one BGP session of one node: a BGPPeer that the node
// keeps a session with or, for a BGPPeer with a prefix, one neighbour that
// dialled. The speaker of that node writes it; nobody else should.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=bgpsessionstatuses,shortName=bgpsess
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Peer",type=string,JSONPath=`.status.peer`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.peerAddress`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.since`
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.status.bfd.state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
type BGPSessionStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status BGPSessionStatusStatus `json:"status,omitzero"`
}

// BGPSessionStatusStatus is what the speaker knows of the session.
type BGPSessionStatusStatus struct {
	// node is the node that keeps the session. It does not change in the life
	// of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="node cannot be changed after it was set"
	Node string `json:"node,omitempty"`
	// peer is the name of the BGPPeer. It does not change in the life of the
	// object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="peer cannot be changed after it was set"
	Peer string `json:"peer,omitempty"`
	// peerAddress is the peer's IP address, with its interface after a percent
	// sign if it is link-local. Empty while it is not known.
	// +optional
	PeerAddress string `json:"peerAddress,omitempty"`
	// localAddress is the node's IP address in this session. Empty while it is
	// not known.
	// +optional
	LocalAddress string `json:"localAddress,omitempty"`
	// vrf is the Linux VRF of the session. Empty: none.
	// +optional
	VRF string `json:"vrf,omitempty"`
	// state is where the session is: a state of RFC 4271, section 8.2.2, Blocked
	// (it cannot even be tried: see reason) or HeldDown (BFD says that the peer
	// is not there).
	// +optional
	State SessionState `json:"state,omitempty"`
	// since is when the state began.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// reason is one word for why the session is not established. Empty if it is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message is what the reason leaves open, for people.
	// +optional
	Message string `json:"message,omitempty"`
	// lastDown is how the session ended the last time. Absent if it never did.
	// +optional
	LastDown *SessionDown `json:"lastDown,omitempty"`
	// remoteASN is the AS number that the peer has shown. Absent, like the
	// negotiated values below, unless the session is established.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	RemoteASN uint32 `json:"remoteASN,omitempty"`
	// remoteRouterID is the BGP identifier that the peer has shown.
	// +optional
	RemoteRouterID string `json:"remoteRouterID,omitempty"`
	// holdTimeSeconds is the negotiated hold time; 0: the session is never given
	// up for silence.
	// +optional
	HoldTimeSeconds *int32 `json:"holdTimeSeconds,omitempty"`
	// keepaliveTimeSeconds is the interval of our keepalive messages; 0: none
	// are sent.
	// +optional
	KeepaliveTimeSeconds *int32 `json:"keepaliveTimeSeconds,omitempty"`
	// families are the address families that are exchanged, IPv4 first.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Families []AddressFamily `json:"families,omitempty"`
	// gracefulRestart is true when both sides have agreed on it.
	// +optional
	GracefulRestart bool `json:"gracefulRestart,omitempty"`
	// sentPrefixes counts the prefixes that the peer was told.
	// +optional
	SentPrefixes *PrefixCounts `json:"sentPrefixes,omitempty"`
	// receivedPrefixes counts the prefixes that the peer sent. All of them are
	// refused.
	// +optional
	ReceivedPrefixes int64 `json:"receivedPrefixes,omitempty"`
	// bfd is the BFD session that watches the peer. Absent: none does.
	// +optional
	BFD *BFDSessionStatus `json:"bfd,omitempty"`
}

// SessionState is where a BGP session is.
//
// +kubebuilder:validation:Enum=Idle;Connect;Active;OpenSent;OpenConfirm;Established;Blocked;HeldDown
type SessionState string

// AddressFamily is a family of prefixes.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type AddressFamily string

// The families.
const (
	IPv4 AddressFamily = "IPv4"
	IPv6 AddressFamily = "IPv6"
)

// SessionDown is the end of a session.
type SessionDown struct {
	// time of the end.
	// +optional
	Time *metav1.Time `json:"time,omitempty"`
	// reason is one word for why.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message holds the name of the notification, if there was one, and the text
	// that came with it.
	// +optional
	Message string `json:"message,omitempty"`
}

// PrefixCounts are numbers of prefixes.
type PrefixCounts struct {
	// ipv4 counts the IPv4 prefixes.
	// +optional
	IPv4 int64 `json:"ipv4"`
	// ipv6 counts the IPv6 prefixes.
	// +optional
	IPv6 int64 `json:"ipv6"`
}

// BFDState is where a BFD session is (RFC 5880, section 4.1).
//
// +kubebuilder:validation:Enum=AdminDown;Down;Init;Up
type BFDState string

// BFDSessionStatus is what the speaker knows of a BFD session.
type BFDSessionStatus struct {
	// state is AdminDown, Down, Init or Up.
	// +optional
	State BFDState `json:"state,omitempty"`
	// since is when the state began.
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// reason is one word for why the session is not up. Empty if it is.
	// +optional
	Reason string `json:"reason,omitempty"`
	// message is what the reason leaves open, for people.
	// +optional
	Message string `json:"message,omitempty"`
	// transmitIntervalMilliseconds is the interval of our control packets.
	// +optional
	TransmitIntervalMilliseconds int32 `json:"transmitIntervalMilliseconds,omitempty"`
	// detectionTimeMilliseconds is the silence after which the peer is down.
	// +optional
	DetectionTimeMilliseconds int32 `json:"detectionTimeMilliseconds,omitempty"`
}

// BGPSessionStatusList is a list of BGPSessionStatus objects.
//
// +kubebuilder:object:root=true
type BGPSessionStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPSessionStatus `json:"items"`
}
