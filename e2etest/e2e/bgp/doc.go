// Package bgp tells Herald's BGP and BFD as a user and the network engineer beside
// them live it, in a lab with a real cluster and a real router: which routes FRR
// has, over which nodes traffic comes, what the cluster says about it, and what
// happens when something breaks.
//
// It asks a client behind the router, the router with vtysh, and reads what kubectl
// shows. It refuses to look into Herald's processes.
//
// Most stories share two sessions of each node with the router, one for each
// family, and bring pools, advertisements and Services only. Those that are about
// sessions get a subnet between nodes and router of their own (plane), so that
// they may do to their sessions what they like beside all others.
//
// Build tag: lab. Run: make test-e2e
package bgp
