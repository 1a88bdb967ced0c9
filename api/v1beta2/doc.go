// Package v1beta2 holds metallb.io/v1beta2: the stored version of BGPPeer, the
// one kind that has two. internal/conversion turns one version into the other.
//
// Like api/v1beta1 it knows types and their schema only and imports
// apimachinery (and, for the label selector, its sibling).
//
// +kubebuilder:object:generate=true
// +groupName=metallb.io
package v1beta2
