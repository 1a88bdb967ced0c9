package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that Herald may give to Services of type
// LoadBalancer.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=ipap
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Avoid Buggy IPs",type=boolean,JSONPath=`.spec.avoidBuggyIPs`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec IPAddressPoolSpec `json:"spec"`
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec is what an operator wants of a pool.
type IPAddressPoolSpec struct {
	// addresses are the addresses of the pool. Each entry is a CIDR
	// (192.168.10.0/24, 2001:db8::/120; one address is a /32 or a /128) or a
	// range of two addresses of one family (192.168.9.1-192.168.9.5), both ends
	// included. Every address counts, the first and the last of a CIDR too
	// (see avoidBuggyIPs). Entries may not overlap, neither in one pool nor
	// between pools. Addresses are given out in the order of this list.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2000
	Addresses []AddressRange `json:"addresses"`

	// autoAssign says whether Services that ask for nothing may get an address
	// from this pool. When false, the pool is used only by Services that ask
	// for it by name or for one of its addresses. Default: true.
	// +optional
	// +kubebuilder:default:=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs leaves out the IPv4 addresses that end in .0 or .255, which
	// some old equipment does not handle. It has no effect on IPv6.
	// Default: false.
	// +optional
	// +kubebuilder:default:=false
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// serviceAllocation pins the pool to some Services and orders it among the
	// pinned pools, which are tried before all others. Absent: the pool is for
	// every Service.
	// +optional
	AllocateTo *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// AddressRange is a CIDR or a range of two addresses joined by a dash.
//
// The rules refuse nothing that internal/config accepts. They are regular
// expressions since CEL knows addresses only from Kubernetes 1.31 on, and they
// leave the rest (the order of a range, the groups of an IPv6 address) to it.
//
// +kubebuilder:validation:MaxLength=128
// +kubebuilder:validation:XValidation:rule="self.contains('-') || self.matches('^(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])/0*(3[0-2]|[12]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/0*(12[0-8]|1[01][0-9]|[0-9]?[0-9]))$')",messageExpression="'\"' + self + '\" is not an address range: expected a CIDR such as 192.168.10.0/24 (a single address is a /32 or a /128), or a range such as 192.168.9.1-192.168.9.5'"
// +kubebuilder:validation:XValidation:rule="!self.contains('-') || self.matches('^[[:space:]]*(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)[[:space:]]*-[[:space:]]*(((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)[[:space:]]*$')",messageExpression="'\"' + self + '\" is not an address range: expected two IP addresses of one family joined by a dash, such as 192.168.9.1-192.168.9.5'"
type AddressRange string

// ServiceAllocation says which Services a pool is for. Namespaces and
// namespaceSelectors are OR-ed, the result is AND-ed with serviceSelectors.
// When all three are empty the pool is for every Service, and still tried
// before pools without serviceAllocation.
type ServiceAllocation struct {
	// priority orders the pinned pools that admit a Service: the lowest
	// positive number is tried first; 0 (the default) and negative numbers
	// last.
	// +optional
	Priority int `json:"priority,omitempty"`
	// namespaces are names of namespaces whose Services may use the pool. They
	// need not exist.
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// namespaceSelectors select such namespaces by label; any of them suffices.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	NamespaceSelectors []LabelSelector `json:"namespaceSelectors,omitempty"`
	// serviceSelectors select the Services that may use the pool by label; any
	// of them suffices. Empty: every Service of the namespaces above.
	// +optional
	// +kubebuilder:validation:MaxItems=4096
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus says how much of the pool is used. An address that
// several Services share counts once.
type IPAddressPoolStatus struct {
	// assignedIPv4 is the number of IPv4 addresses in use.
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// assignedIPv6 is the number of IPv6 addresses in use.
	AssignedIPv6 int64 `json:"assignedIPv6"`
	// availableIPv4 is the number of IPv4 addresses that are left.
	AvailableIPv4 int64 `json:"availableIPv4"`
	// availableIPv6 is the number of IPv6 addresses that are left;
	// 9223372036854775807 stands for that many or more.
	AvailableIPv6 int64 `json:"availableIPv6"`
}

// IPAddressPoolList is a list of IPAddressPools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
