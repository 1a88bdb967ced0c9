// Package v1alpha1 holds heraldlb.io/v1alpha1: the kinds that Herald has and
// MetalLB does not. They only tell what is; nothing has to be written to them,
// and a cluster works without anybody reading them.
//
// Like api/v1beta1 it knows types and their schema only and imports
// apimachinery and nothing else.
//
// +kubebuilder:object:generate=true
// +groupName=heraldlb.io
package v1alpha1
