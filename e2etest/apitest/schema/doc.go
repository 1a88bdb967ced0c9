// Package schema tests the definitions and samples of all kinds
// with kubectl against a real kube-apiserver, as a user meets them. What is
// accepted and refused in detail is tested in e2etest/crd, without one.
package schema
