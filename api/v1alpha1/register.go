package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is heraldlb.io/v1alpha1.
var GroupVersion = schema.GroupVersion{Group: "heraldlb.io", Version: "v1alpha1"}

// AddToScheme registers every kind of this version.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &BGPSessionStatus{}, &BGPSessionStatusList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
