// Package bird tells the core of Herald's BGP and BFD with BIRD as the router of one
// rack and as the spine, and FRR as the router of the other: reachability across
// both, attributes, BFD, restarts, and routers that dial.
//
// All sessions have a password and BFD, and Herald is installed
// with the component bgp-passive. Package bgp has all other stories.
//
// Build tag: lab. Run: make test-e2e
package bird
