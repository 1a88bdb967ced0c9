package v1beta2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
)

// BGPPeer is a BGP router that nodes keep a session with.
//
// +kubebuilder:object:root=true
// +kubebuilder:storageversion
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=lbpeer
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="ASN",type=string,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Multi Hops",type=string,JSONPath=`.spec.ebgpMultiHop`
// +kubebuilder:validation:XValidation:rule="has(self.spec)",message="missing spec: expected at least myASN, peerASN and peerAddress"
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec BGPPeerSpec `json:"spec,omitempty"`
	// +optional
	Status BGPPeerStatus `json:"status,omitzero"`
}

// BGPPeerSpec is what an operator wants of a session.
//
// +kubebuilder:validation:XValidation:rule="self.myASN != 0",fieldPath=".myASN",message="missing local ASN: expected myASN between 1 and 4294967295"
// +kubebuilder:validation:XValidation:rule="(has(self.peerASN) && self.peerASN != 0) || (has(self.dynamicASN) && size(self.dynamicASN) > 0)",message="missing peer ASN and dynamicASN: expected exactly one of peerASN and dynamicASN"
// +kubebuilder:validation:XValidation:rule="!(has(self.peerASN) && self.peerASN != 0 && has(self.dynamicASN) && size(self.dynamicASN) > 0)",message="both peer ASN and dynamicASN specified: expected exactly one of peerASN and dynamicASN"
// +kubebuilder:validation:XValidation:rule="((has(self.peerAddress) && size(self.peerAddress) > 0) ? 1 : 0) + ((has(self.interface) && size(self.interface) > 0) ? 1 : 0) + ((has(self.peerPrefix) && size(self.peerPrefix) > 0) ? 1 : 0) >= 1",message="invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found none"
// +kubebuilder:validation:XValidation:rule="((has(self.peerAddress) && size(self.peerAddress) > 0) ? 1 : 0) + ((has(self.interface) && size(self.interface) > 0) ? 1 : 0) + ((has(self.peerPrefix) && size(self.peerPrefix) > 0) ? 1 : 0) <= 1",message="invalid BGPPeer address: expected exactly one of peerAddress, interface and peerPrefix, found more than one"
// +kubebuilder:validation:XValidation:rule="!(has(self.password) && size(self.password) > 0 && has(self.passwordSecret) && has(self.passwordSecret.name) && size(self.passwordSecret.name) > 0)",message="both password and passwordSecret specified: expected at most one of them"
// +kubebuilder:validation:XValidation:rule="!(has(self.ebgpMultiHop) && self.ebgpMultiHop && has(self.peerASN) && self.peerASN == self.myASN)",fieldPath=".ebgpMultiHop",message="invalid ebgp-multihop parameter set for an ibgp peer: expected ebgpMultiHop false where peerASN equals myASN"
// +kubebuilder:validation:XValidation:rule="!(has(self.ttlSecurity) && self.ttlSecurity && has(self.ebgpMultiHop) && self.ebgpMultiHop)",fieldPath=".ttlSecurity",message="both ttlSecurity and ebgpMultiHop specified: expected at most one of them, since ttlSecurity demands a peer that is one hop away"
// +kubebuilder:validation:XValidation:rule="!has(self.holdTime) || !has(self.keepaliveTime) || duration(self.keepaliveTime) <= duration(self.holdTime)",fieldPath=".keepaliveTime",message="invalid keepaliveTime: expected at most holdTime"
// +kubebuilder:validation:XValidation:rule="has(self.holdTime) || !has(self.keepaliveTime) || duration(self.keepaliveTime).getMilliseconds() * 3 < 1000 || duration(self.keepaliveTime) >= duration('1s')",fieldPath=".keepaliveTime",message="invalid keepaliveTime: expected 0s or at least 1s where holdTime, which is then three times as long, is not set"
type BGPPeerSpec struct {
	// myASN is the AS number of this side, 1 to 4294967295.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	MyASN uint32 `json:"myASN"`
	// peerASN is the AS number of the peer. Exactly one of peerASN and
	// dynamicASN must be set.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	ASN uint32 `json:"peerASN,omitempty"`
	// dynamicASN accepts whatever AS number the peer has, as long as it equals
	// ours (internal) or differs from ours (external). Exactly one of peerASN
	// and dynamicASN must be set.
	// +optional
	DynamicASN DynamicASNMode `json:"dynamicASN,omitempty"`
	// localASN is the AS number shown to this peer in place of myASN. Default:
	// myASN.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	LocalASN uint32 `json:"localASN,omitempty"`
	// peerAddress is the IP address of the peer. Exactly one of peerAddress,
	// interface and peerPrefix must be set.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$')",messageExpression="'invalid BGPPeer address \"' + self + '\": expected an IP address without a zone'"
	Address string `json:"peerAddress,omitempty"`
	// interface is the name of the node's network interface to peer over by
	// IPv6 link-local addresses (unnumbered BGP). Exactly one of peerAddress,
	// interface and peerPrefix must be set.
	// +optional
	Interface string `json:"interface,omitempty"`
	// peerPrefix is a CIDR: every address in it may dial and gets a session of
	// its own (dynamic neighbours). It implies passiveMode. The prefix must not
	// overlap the prefix or the address of another BGPPeer of the same node and
	// VRF. Exactly one of peerAddress, interface and peerPrefix must be set.
	// Herald's own: MetalLB does not have it.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])/0*(3[0-2]|[12]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/0*(12[0-8]|1[01][0-9]|[0-9]?[0-9]))$')",messageExpression="'invalid BGPPeer prefix \"' + self + '\": expected a CIDR such as 192.168.10.0/24'"
	Prefix string `json:"peerPrefix,omitempty"`
	// sourceAddress is the local IP address of the session. Default: the
	// address that the route to the peer prefers.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$')",messageExpression="'invalid source address \"' + self + '\": expected an IP address without a zone'"
	SrcAddress string `json:"sourceAddress,omitempty"`
	// peerPort is the TCP port to dial, 1 to 65535. It is not used where the
	// peer dials. Default: 179.
	// +optional
	// +kubebuilder:default:=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port uint16 `json:"peerPort,omitempty"`
	// holdTime is the proposed BGP hold time (RFC 4271), 0s (no keepalives, the
	// session is never given up) or 3s to 65535s. Default: three times
	// keepaliveTime, or 90s when that is not set either.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-+]?(0|([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('0s') && (duration(self) < duration('1s') || duration(self) >= duration('3s'))",messageExpression="'invalid hold time \"' + self + '\": expected 0s or at least 3s'"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`
	// keepaliveTime is the interval of keepalive messages, at most holdTime.
	// Default: a third of holdTime.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-+]?(0|([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('0s')",messageExpression="'invalid keepalive time \"' + self + '\": expected 0s or more'"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`
	// connectTime is the time between two attempts to connect, whole seconds
	// from 1s to 65535s. It is not used where the peer dials.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-+]?(0|([0-9]+[.]?[0-9]*|[.][0-9]+)(ns|us|µs|μs|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",messageExpression="'invalid connect time \"' + self + '\": expected whole seconds between 1s and 65535s'"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`
	// routerID is the BGP router ID to announce, written as an IPv4 address.
	// Default: an IPv4 address of the node.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$')",messageExpression="'invalid router ID \"' + self + '\": expected an IPv4 address'"
	RouterID string `json:"routerID,omitempty"`
	// nodeSelectors select the nodes that open the session; any of them
	// suffices. Empty: every node.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	NodeSelectors []v1beta1.LabelSelector `json:"nodeSelectors,omitempty"`
	// password is the TCP MD5 key (RFC 2385) of the session. At most one of
	// password and passwordSecret may be set.
	// +optional
	Password string `json:"password,omitempty"`
	// passwordSecret names a Secret of type kubernetes.io/basic-auth in
	// Herald's own namespace, whose key "password" is the TCP MD5 key.
	// +optional
	PasswordSecret SecretReference `json:"passwordSecret,omitzero"`
	// bfdProfile is the name of the BFDProfile that watches the session.
	// +optional
	BFDProfile string `json:"bfdProfile,omitempty"`
	// enableGracefulRestart keeps the routes through a restart of the speaker
	// (RFC 4724). It cannot be changed after the object was created.
	// Default: false.
	// +optional
	// +kubebuilder:default:=false
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="enableGracefulRestart cannot be changed after creation: delete the BGPPeer and create it again"
	EnableGracefulRestart bool `json:"enableGracefulRestart,omitempty"`
	// ebgpMultiHop says that the peer is more than one hop away. It is for
	// peers of another AS only. Default: false.
	// +optional
	// +kubebuilder:default:=false
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`
	// ttlSecurity sends with TTL 255 and drops every packet of the session that
	// arrives with less, which nobody but a direct neighbour can send (GTSM,
	// RFC 5082). The peer must do the same. It excludes ebgpMultiHop. Default:
	// false. Herald's own: MetalLB does not have it.
	// +optional
	TTLSecurity bool `json:"ttlSecurity,omitempty"`
	// passiveMode waits for the peer to dial instead of dialling it. Default:
	// false. Herald's own: MetalLB does not have it.
	// +optional
	PassiveMode bool `json:"passiveMode,omitempty"`
	// vrf is the name of the Linux VRF whose interfaces the session uses.
	// Default: none.
	// +optional
	VRFName string `json:"vrf,omitempty"`
	// disableMP has no effect and is deprecated.
	// +optional
	// +kubebuilder:default:=false
	DisableMP bool `json:"disableMP,omitempty"`
	// dualStackAddressFamily exchanges IPv4 and IPv6 prefixes over this one
	// session. Otherwise an IPv4 session carries IPv4 prefixes, and an IPv6
	// session IPv6 prefixes. Default: false.
	// +optional
	// +kubebuilder:default:=false
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`
}

// DynamicASNMode says which AS numbers of a peer are accepted.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASNMode string

// The modes.
const (
	// InternalASN accepts a peer of our own AS.
	InternalASN DynamicASNMode = "internal"
	// ExternalASN accepts a peer of any other AS.
	ExternalASN DynamicASNMode = "external"
)

// SecretReference names a Secret.
//
// +structType=atomic
type SecretReference struct {
	// name of the Secret.
	// +optional
	Name string `json:"name,omitempty"`
	// namespace is not used: the Secret is looked up in Herald's own namespace.
	// +optional
	Namespace string `json:"namespace,omitempty"`
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
