package v1beta1

// LabelSelector is the Kubernetes label selector. matchLabels and
// matchExpressions are AND-ed; an empty selector ({}) matches everything.
//
// It is metav1.LabelSelector with bounds, which the API server needs before it
// accepts rules on what is inside a list of selectors.
//
// +structType=atomic
type LabelSelector struct {
	// matchLabels is a map of label to value; all of them must be present with
	// that value.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitempty"`
	// matchExpressions is a list of requirements; all of them must hold.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelSelectorRequirement relates one label to a set of values.
//
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn', 'Exists', 'DoesNotExist']",fieldPath=".operator",message="unknown operator: expected In, NotIn, Exists or DoesNotExist"
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['In', 'NotIn']) || (has(self.values) && size(self.values) > 0)",fieldPath=".values",message="the operators In and NotIn expect at least one value"
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || size(self.values) == 0",fieldPath=".values",message="the operators Exists and DoesNotExist expect no values"
type LabelSelectorRequirement struct {
	// key is the label that the requirement is about.
	Key string `json:"key"`
	// operator is In, NotIn, Exists or DoesNotExist.
	Operator string `json:"operator"`
	// values are what In and NotIn compare with; Exists and DoesNotExist take
	// none.
	// +optional
	// +listType=atomic
	Values []string `json:"values,omitempty"`
}
