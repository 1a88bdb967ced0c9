// Package v1beta1 holds the metallb.io/v1beta1 kinds: what an operator writes
// to configure Herald, and what Herald writes back.
//
// The kinds are a promise to users: names, JSON names, types and defaults are
// MetalLB's, so that objects move over unchanged. The package knows types and
// their schema only (the +kubebuilder markers become the CRDs in
// config/crd/bases); what an object means is decided by internal/config. It
// imports apimachinery and nothing else.
//
// +kubebuilder:object:generate=true
// +groupName=metallb.io
package v1beta1
