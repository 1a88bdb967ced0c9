package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ServiceL2Status says from where a Service is announced by ARP or NDP. The
// announcing speaker writes it; nobody else should.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=svcl2
// +kubebuilder:printcolumn:name="Allocated Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Service Name",type=string,JSONPath=`.status.serviceName`
// +kubebuilder:printcolumn:name="Service Namespace",type=string,JSONPath=`.status.serviceNamespace`
type ServiceL2Status struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec ServiceL2StatusSpec `json:"spec,omitzero"`
	// +optional
	Status ServiceL2StatusStatus `json:"status,omitzero"`
}

// ServiceL2StatusSpec is empty: there is nothing to want.
type ServiceL2StatusSpec struct{}

// ServiceL2StatusStatus is what the announcing speaker does.
type ServiceL2StatusStatus struct {
	// node is the node that announces the Service. It does not change in the
	// life of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="node cannot be changed after it was set"
	Node string `json:"node,omitempty"`
	// serviceName is the name of the announced Service. It does not change in
	// the life of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="serviceName cannot be changed after it was set"
	ServiceName string `json:"serviceName,omitempty"`
	// serviceNamespace is the namespace of the announced Service. It does not
	// change in the life of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="serviceNamespace cannot be changed after it was set"
	ServiceNamespace string `json:"serviceNamespace,omitempty"`
	// interfaces are the interfaces that the address is announced from. Empty:
	// all of them.
	// +optional
	Interfaces []InterfaceInfo `json:"interfaces,omitempty"`
}

// InterfaceInfo names a network interface.
type InterfaceInfo struct {
	// name of the interface.
	// +optional
	Name string `json:"name,omitempty"`
}

// ServiceL2StatusList is a list of ServiceL2Status objects.
//
// +kubebuilder:object:root=true
type ServiceL2StatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceL2Status `json:"items"`
}

// ServiceBGPStatus says which nodes announce a Service to which peers. One
// speaker writes the one object of a Service; nobody else should.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=svcbgp
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.node`
// +kubebuilder:printcolumn:name="Service Name",type=string,JSONPath=`.status.serviceName`
// +kubebuilder:printcolumn:name="Service Namespace",type=string,JSONPath=`.status.serviceNamespace`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.status.peers`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes`,priority=10
type ServiceBGPStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec ServiceBGPStatusSpec `json:"spec,omitzero"`
	// +optional
	Status ServiceBGPStatusStatus `json:"status,omitzero"`
}

// ServiceBGPStatusSpec is empty: there is nothing to want.
type ServiceBGPStatusSpec struct{}

// ServiceBGPStatusStatus is who announces the Service to whom.
type ServiceBGPStatusStatus struct {
	// node is the node that announces the Service, where there is one object
	// for each node. Herald writes one object for each Service and leaves this
	// empty: see nodes. It does not change in the life of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="node cannot be changed after it was set"
	Node string `json:"node,omitempty"`
	// serviceName is the name of the announced Service. It does not change in
	// the life of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="serviceName cannot be changed after it was set"
	ServiceName string `json:"serviceName,omitempty"`
	// serviceNamespace is the namespace of the announced Service. It does not
	// change in the life of the object.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="serviceNamespace cannot be changed after it was set"
	ServiceNamespace string `json:"serviceNamespace,omitempty"`
	// peers are the names of the BGPPeers that the Service is configured to be
	// announced to, by any node, sorted. It does not say that their sessions are
	// up.
	// +optional
	Peers []string `json:"peers,omitempty"`
	// nodes are the nodes that announce the Service, in name order. Herald's
	// own: MetalLB does not have it.
	// +optional
	// +listType=map
	// +listMapKey=node
	Nodes []ServiceBGPStatusNode `json:"nodes,omitempty"`
}

// ServiceBGPStatusNode is one node that announces the Service.
type ServiceBGPStatusNode struct {
	// node is the name of the node.
	Node string `json:"node"`
	// peers are the names of the BGPPeers that the node is configured to
	// announce the Service to, sorted.
	// +optional
	Peers []string `json:"peers,omitempty"`
}

// ServiceBGPStatusList is a list of ServiceBGPStatus objects.
//
// +kubebuilder:object:root=true
type ServiceBGPStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ServiceBGPStatus `json:"items"`
}
