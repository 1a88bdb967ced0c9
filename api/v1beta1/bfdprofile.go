package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BFDProfile is a set of BFD (RFC 5880) parameters that BGPPeers refer to by
// name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=bfdp
// +kubebuilder:printcolumn:name="Passive Mode",type=boolean,JSONPath=`.spec.passiveMode`
// +kubebuilder:printcolumn:name="Transmit Interval",type=integer,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Receive Interval",type=integer,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec BFDProfileSpec `json:"spec,omitempty"`
	// +optional
	Status BFDProfileStatus `json:"status,omitzero"`
}

// BFDProfileSpec holds the parameters; what is unset takes the default that
// its field names.
type BFDProfileSpec struct {
	// receiveInterval is the shortest interval, in milliseconds, at which this
	// side can receive control packets, 10 to 60000. What is below 50 is
	// reported and counts as 50. Default: 300.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	ReceiveInterval *uint32 `json:"receiveInterval,omitempty"`
	// transmitInterval is the shortest interval, in milliseconds, at which this
	// side wants to send control packets, 10 to 60000. What is below 50 is
	// reported and counts as 50. Default: 300.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	TransmitInterval *uint32 `json:"transmitInterval,omitempty"`
	// detectMultiplier is the number of intervals without a packet after which
	// the session is down, 2 to 255. Default: 3.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier *uint32 `json:"detectMultiplier,omitempty"`
	// echoInterval is the interval, in milliseconds, of echo packets in both
	// directions, 10 to 60000. It matters with echoMode only. What is below 50
	// is reported and counts as 50. Default: 50.
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	EchoInterval *uint32 `json:"echoInterval,omitempty"`
	// echoMode sends echo packets, which the peer's forwarding plane returns.
	// Single-hop sessions only, of either address family. Default: false.
	// +optional
	EchoMode *bool `json:"echoMode,omitempty"`
	// passiveMode waits for the peer to send the first packet. Default: false.
	// +optional
	PassiveMode *bool `json:"passiveMode,omitempty"`
	// minimumTtl is the lowest TTL accepted on multi-hop sessions, 1 to 254.
	// Default: 254.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MinimumTTL *uint32 `json:"minimumTtl,omitempty"`
	// authentication of the control packets. Both sides must do the same.
	// Default: none. Herald's own: MetalLB does not have it.
	// +optional
	Authentication *BFDAuthentication `json:"authentication,omitempty"`
}

// BFDAuthentication is how packets are authenticated (RFC 5880, section 6.7).
type BFDAuthentication struct {
	// type is KeyedSHA1, or MeticulousKeyedSHA1, which changes the sequence
	// number with every packet.
	Type BFDAuthenticationType `json:"type"`
	// keyID is the number of the key that both sides have agreed on, 0 to 255.
	// Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=255
	KeyID int32 `json:"keyID,omitempty"`
	// secret names the Secret with the key.
	Secret BFDSecretReference `json:"secret"`
}

// BFDAuthenticationType is an authentication type of RFC 5880, section 4.4.
//
// +kubebuilder:validation:Enum=KeyedSHA1;MeticulousKeyedSHA1
type BFDAuthenticationType string

// The types.
const (
	KeyedSHA1           BFDAuthenticationType = "KeyedSHA1"
	MeticulousKeyedSHA1 BFDAuthenticationType = "MeticulousKeyedSHA1"
)

// BFDSecretReference names a Secret.
type BFDSecretReference struct {
	// name of a Secret of type kubernetes.io/basic-auth in Herald's own
	// namespace, whose key "password" is the key, 1 to 20 bytes.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// BFDProfileStatus is empty; it is there because the kind has a status
// subresource.
type BFDProfileStatus struct{}

// BFDProfileList is a list of BFDProfiles.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BFDProfile `json:"items"`
}
