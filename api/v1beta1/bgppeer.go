package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a BGP router that nodes keep a session with. This version is
// deprecated: use v1beta2, which is the stored one and can say more.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=lbpeer
// +kubebuilder:deprecatedversion:warning="metallb.io v1beta1 BGPPeer is deprecated, consider using v1beta2"
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=string,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Multi Hops",type=string,JSONPath=`.spec.ebgpMultiHop`
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec BGPPeerSpec `json:"spec,omitempty"`
	// +optional
	Status BGPPeerStatus `json:"status,omitzero"`
}

// BGPPeerSpec is what an operator wants of a session.
type BGPPeerSpec struct {
	// myASN is the AS number of this side.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	MyASN uint32 `json:"myASN"`
	// peerASN is the AS number of the peer.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	ASN uint32 `json:"peerASN"`
	// peerAddress is the IP address to dial.
	Address string `json:"peerAddress"`
	// sourceAddress is the local IP address of the session. Default: the
	// address that the route to the peer prefers.
	// +optional
	SrcAddress string `json:"sourceAddress,omitempty"`
	// peerPort is the TCP port to dial. Default: 179.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=65535
	Port uint16 `json:"peerPort,omitempty"`
	// holdTime is the proposed BGP hold time (RFC 4271), 0s or at least 3s.
	// +optional
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// keepaliveTime is the interval of keepalive messages, at most holdTime.
	// +optional
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// routerID is the BGP router ID to announce. Default: an IPv4 address of
	// the node.
	// +optional
	RouterID string `json:"routerID,omitempty"`
	// nodeSelectors select the nodes that open the session; any of them
	// suffices. Empty: every node.
	// +optional
	NodeSelectors []NodeSelector `json:"nodeSelectors,omitempty"`
	// password is the TCP MD5 key (RFC 2385) of the session.
	// +optional
	Password string `json:"password,omitempty"`
	// bfdProfile is the name of the BFDProfile that watches the session.
	// +optional
	BFDProfile string `json:"bfdProfile,omitempty"`
	// ebgpMultiHop says that the peer is more than one hop away. Default: false.
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`
}

// NodeSelector selects nodes by label. Everything in it must hold; an empty
// selector matches every node.
type NodeSelector struct {
	// matchLabels is a map of label to value; all of them must be present with
	// that value.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	// matchExpressions is a list of requirements; all of them must hold.
	// +optional
	MatchExpressions []MatchExpression `json:"matchExpressions,omitempty"`
}

// MatchExpression relates one label to a set of values.
type MatchExpression struct {
	// key is the label that the requirement is about.
	Key string `json:"key"`
	// operator is In, NotIn, Exists or DoesNotExist.
	Operator string `json:"operator"`
	// values are what In and NotIn compare with. The schema of this version
	// wants at least one also for Exists and DoesNotExist, where it means
	// nothing.
	// +kubebuilder:validation:MinItems=1
	Values []string `json:"values"`
}

// BGPPeerStatus is empty; it is there because the kind has a status
// subresource.
type BGPPeerStatus struct{}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}
