// Package assignment tells how Services get, keep and lose addresses, as a user
// lives it in a lab with a real cluster: the stories that MetalLB's users rely
// on, the defects of MetalLB that Herald is not to have, and what is said about
// requests and pools that make no sense.
//
// It reads what kubectl shows: the status, conditions and events of Services,
// the status of pools, the ConfigurationState. It refuses to know how an address
// is announced, beyond that one which is taken away no longer is.
//
// Beside all stories a guard watches every version of every Service: no address
// is ever in two of them that do not share it, none is from outside of the pools.
//
// A story that uses pools for its own namespace only is parallel. One that makes
// pools for everybody, or touches Herald's pods, is not.
//
// Build tag: lab. Run: make test-e2e
package assignment
