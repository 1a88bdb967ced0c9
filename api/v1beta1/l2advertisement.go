package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement announces the addresses of pools on the local network, by
// ARP for IPv4 and by NDP for IPv6. An empty spec announces every pool from
// every node and every interface.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=l2adv
// +kubebuilder:printcolumn:name="IPAddressPools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="IPAddressPool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=10
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`
	// +optional
	Status L2AdvertisementStatus `json:"status,omitzero"`
}

// L2AdvertisementSpec says what is announced, for which Services and from where.
type L2AdvertisementSpec struct {
	// ipAddressPools are names of the pools to announce. Together with
	// ipAddressPoolSelectors; when both are empty, all pools.
	// +optional
	IPAddressPools []string `json:"ipAddressPools,omitempty"`
	// ipAddressPoolSelectors select pools to announce by the pools' labels; any
	// of them suffices.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`
	// nodeSelectors select the nodes that may announce; any of them suffices.
	// Empty: every node.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`
	// interfaces are the exact names of the network interfaces to announce
	// from. A node without any of them is not elected. Empty: every interface.
	// +optional
	Interfaces []string `json:"interfaces,omitempty"`
	// serviceSelectors select the Services that this object announces by label;
	// any of them suffices. Empty: every Service of the pools. They cannot be
	// combined with Services that share an address.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`
	// preferredNodeSelectors prefer some of the nodes that nodeSelectors admit.
	// A node's score is the sum of the weights that match it, over all
	// L2Advertisements of the Service; the highest score is elected first.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`
}

// PreferredNodeSelector adds a weight to the score of the nodes it matches.
type PreferredNodeSelector struct {
	// weight is added to the score of every node that preference matches,
	// 1 to 100.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`
	// preference selects nodes by label; {} matches every node.
	Preference LabelSelector `json:"preference"`
}

// L2AdvertisementStatus is empty; it is there because the kind has a status
// subresource.
type L2AdvertisementStatus struct{}

// L2AdvertisementList is a list of L2Advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}
