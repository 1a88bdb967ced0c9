package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPAdvertisement announces the addresses of pools to BGP peers. An empty
// spec announces every pool from every node to every peer, address by address.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=bgpadv
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=10
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`
	// +optional
	Status BGPAdvertisementStatus `json:"status,omitzero"`
}

// BGPAdvertisementSpec says what is announced, how, for which Services, from
// which nodes and to whom.
//
// +kubebuilder:validation:XValidation:rule="!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || ((!has(self.aggregationLength) || self.aggregationLength == 32) && (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",message="serviceSelectors and aggregation are mutually exclusive: expected aggregationLength 32 and aggregationLengthV6 128 (or neither) beside serviceSelectors"
type BGPAdvertisementSpec struct {
	// aggregationLength is the prefix length that IPv4 addresses are announced
	// with, 1 to 32. It may not be shorter than the prefixes of the pools.
	// Default: 32, each address by itself.
	// +optional
	// +kubebuilder:default:=32
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`
	// aggregationLengthV6 is the prefix length that IPv6 addresses are
	// announced with, up to 128. It may not be shorter than the prefixes of
	// the pools. Default: 128, each address by itself.
	// +optional
	// +kubebuilder:default:=128
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`
	// localPref is the LOCAL_PREF attribute towards iBGP peers; the higher one
	// wins. Default: 0, none is sent.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	LocalPref uint32 `json:"localPref,omitempty"`
	// med is the MULTI_EXIT_DISC attribute; of two paths from the same AS the
	// lower one wins. Default: none is sent. Herald's own: MetalLB does not have
	// it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	// +kubebuilder:validation:Format=int64
	MED *uint32 `json:"med,omitempty"`
	// asPathPrepend is how many more times than usual the local AS is in the AS
	// path towards eBGP peers, 0 to 10; the shorter path wins. Default: 0.
	// Herald's own: MetalLB does not have it.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`
	// weightByEndpoints attaches the link-bandwidth community, in proportion to
	// the endpoints of the Service that are ready on the announcing node, so
	// that routers that weigh their paths (weighted ECMP) send each pod as much
	// as the next. It is for Services with externalTrafficPolicy Local: with
	// Cluster every node spreads over all pods, and there is no weight. Default:
	// false. Herald's own: MetalLB does not have it.
	// +optional
	WeightByEndpoints bool `json:"weightByEndpoints,omitempty"`
	// serviceAttributes are the attributes that a Service may set by annotation
	// for its own addresses: heraldlb.io/bgp-communities (added to those above),
	// heraldlb.io/bgp-local-pref, heraldlb.io/bgp-med and
	// heraldlb.io/bgp-as-path-prepend (in place of those above). Default: none.
	// Herald's own: MetalLB does not have it.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4
	ServiceAttributes []ServiceAttribute `json:"serviceAttributes,omitempty"`
	// communities are attached to the announcement. Each is a standard
	// community (64512:100, two numbers up to 65535), a large community
	// (large:64512:1:2, three numbers up to 4294967295) or a name that a
	// Community object defines. Herald's own: an extended community, which is a
	// route target (rt:64512:100; the number may have 32 bits after an AS of 16
	// bits, and 16 bits after any other AS or an IPv4 address), a site of origin
	// (soo:64512:100, the same) or any other eight octets (ext:0002fc0000000064),
	// and, where no Community object says otherwise, the well-known names
	// graceful-shutdown, accept-own, llgr-stale, no-llgr, blackhole, no-export,
	// no-advertise, no-export-subconfed and no-peer.
	// +optional
	// +kubebuilder:validation:MaxItems=1024
	Communities []CommunityRef `json:"communities,omitempty"`
	// ipAddressPools are names of the pools to announce. Together with
	// ipAddressPoolSelectors; when both are empty, all pools.
	// +optional
	IPAddressPools []string `json:"ipAddressPools,omitempty"`
	// ipAddressPoolSelectors select pools to announce by the pools' labels; any
	// of them suffices.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`
	// nodeSelectors select the nodes that announce; any of them suffices.
	// Empty: every node.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`
	// peers are names of the BGPPeer objects to announce to. Empty: every peer.
	// +optional
	Peers []string `json:"peers,omitempty"`
	// serviceSelectors select the Services that this object announces by label;
	// any of them suffices. Empty: every Service of the pools. They cannot be
	// combined with aggregation.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`
}

// ServiceAttribute is an attribute of a route.
//
// +kubebuilder:validation:Enum=communities;localPref;med;asPathPrepend
type ServiceAttribute string

// The attributes, as the fields of the advertisement are called.
const (
	CommunitiesAttribute   ServiceAttribute = "communities"
	LocalPrefAttribute     ServiceAttribute = "localPref"
	MEDAttribute           ServiceAttribute = "med"
	ASPathPrependAttribute ServiceAttribute = "asPathPrepend"
)

// CommunityRef is a community, or the name of one.
//
// +kubebuilder:validation:MaxLength=253
// +kubebuilder:validation:XValidation:rule="!self.contains(':') || self.startsWith('rt:') || self.startsWith('soo:') || self.startsWith('ext:') || self.matches('^(0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}):0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})|large(:0*(429496729[0-5]|42949672[0-8][0-9]|4294967[01][0-9]{2}|429496[0-6][0-9]{3}|42949[0-5][0-9]{4}|4294[0-8][0-9]{5}|429[0-3][0-9]{6}|42[0-8][0-9]{7}|4[01][0-9]{8}|[1-3][0-9]{9}|[0-9]{1,9})){3})$')",messageExpression="'invalid community value \"' + self + '\": expected two numbers up to 65535 (64512:100), large: and three numbers up to 4294967295 (large:64512:1:2), an extended community (rt:64512:100, soo:64512:100 or ext: and 16 hexadecimal digits), or a name'"
// +kubebuilder:validation:XValidation:rule="!self.matches('^(rt|soo|ext):') || self.matches('^((rt|soo):(0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}):[0-9]{1,10}|([0-9]{1,10}|([0-9]{1,3}[.]){3}[0-9]{1,3}):0*(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}))|ext:[0-9a-fA-F]{16})$')",messageExpression="'invalid community value \"' + self + '\": expected an extended community of format rt:64512:100 or soo:64512:100 (32 bits after an AS number of 16 bits, 16 bits after a longer one or an IPv4 address), or ext: and 16 hexadecimal digits'"
type CommunityRef string

// BGPAdvertisementStatus is empty; it is there because the kind has a status
// subresource.
type BGPAdvertisementStatus struct{}

// BGPAdvertisementList is a list of BGPAdvertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPAdvertisement `json:"items"`
}
