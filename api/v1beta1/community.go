package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Community gives names to BGP communities. The names of all Community objects
// form one list; a name may be defined once.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=bgpcomm
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec CommunitySpec `json:"spec,omitempty"`
	// +optional
	Status CommunityStatus `json:"status,omitzero"`
}

// CommunitySpec is a list of names.
type CommunitySpec struct {
	// communities are the names and what they stand for.
	// +optional
	// +kubebuilder:validation:MaxItems=2000
	Communities []CommunityAlias `json:"communities,omitempty"`
}

// CommunityAlias is one name for one community.
//
// +kubebuilder:validation:XValidation:rule="has(self.value) && (self.value.matches('^(rt|soo|ext):') || self.value in ['graceful-shutdown','accept-own','llgr-stale','no-llgr','blackhole','no-export','no-advertise','no-export-subconfed','no-peer'] || self.value.matches('^(0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}):0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})|large(:0*(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[0-9]{1,9})){3})$'))",fieldPath=".value",message="invalid community value: expected community to be of format 64512:100 (two numbers up to 65535) or large:64512:1:2 (large: and three numbers up to 4294967295), an extended community (rt:64512:100, soo:64512:100 or ext: and 16 hexadecimal digits) or a well-known name such as no-export"
// +kubebuilder:validation:XValidation:rule="!has(self.value) || !self.value.matches('^(rt|soo|ext):') || self.value.matches('^((rt|soo):(0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}):[0-9]{1,10}|([0-9]{1,10}|([0-9]{1,3}[.]){3}[0-9]{1,3}):0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}))|ext:[0-9a-fA-F]{16})$')",fieldPath=".value",message="invalid community value: expected an extended community of format rt:64512:100 or soo:64512:100 (32 bits after an AS number of 16 bits, 16 bits after a longer one or an IPv4 address), or ext: and 16 hexadecimal digits"
type CommunityAlias struct {
	// name is how BGPAdvertisements refer to the community.
	// +optional
	Name string `json:"name,omitempty"`
	// value is a standard community (64512:100, two numbers up to 65535) or a
	// large one (large:64512:1:2, three numbers up to 4294967295). Herald's own:
	// an extended community (rt:64512:100, soo:64512:100 or ext: and 16
	// hexadecimal digits) or a well-known name such as no-export. It cannot be
	// another name that a Community object defines.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Value string `json:"value,omitempty"`
}

// CommunityStatus is empty; it is there because the kind has a status
// subresource.
type CommunityStatus struct{}

// CommunityList is a list of Community objects.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Community `json:"items"`
}
