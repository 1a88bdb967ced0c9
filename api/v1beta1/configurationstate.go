package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ConfigurationState says whether one component (the controller, or the
// speaker of one node) could use the whole configuration, and if not, what is
// wrong with it. The component writes it; nobody else should.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=cfgstate
// +kubebuilder:printcolumn:name="Result",type=string,JSONPath=`.status.result`
// +kubebuilder:printcolumn:name="ErrorSummary",type=string,JSONPath=`.status.errorSummary`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ConfigurationState struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status ConfigurationStateStatus `json:"status,omitzero"`
}

// ConfigurationResult is the verdict on the configuration.
//
// +kubebuilder:validation:Enum=Valid;Invalid;Unknown
type ConfigurationResult string

// The verdicts.
const (
	// ConfigurationValid: every object is used as it is written.
	ConfigurationValid ConfigurationResult = "Valid"
	// ConfigurationInvalid: some object, or a part of one, is not used.
	ConfigurationInvalid ConfigurationResult = "Invalid"
	// ConfigurationUnknown: the component has not looked yet.
	ConfigurationUnknown ConfigurationResult = "Unknown"
)

// ConfigurationStateStatus is a component's view of the configuration.
type ConfigurationStateStatus struct {
	// result is Valid, Invalid or Unknown.
	// +optional
	Result ConfigurationResult `json:"result,omitempty"`
	// errorSummary holds the messages of the conditions that fail, one a line.
	// It is empty when the configuration is valid.
	// +optional
	ErrorSummary string `json:"errorSummary,omitempty"`
	// conditions are what the component checks, by type.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ConfigurationStateList is a list of ConfigurationState objects.
//
// +kubebuilder:object:root=true
type ConfigurationStateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ConfigurationState `json:"items"`
}
