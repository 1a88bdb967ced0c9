// Package multihop tells Herald's iBGP with a route reflector two hops away, an
// FRR: sessions, preferences and BFD over several hops, and traffic by way of a
// router that learns from the reflector.
//
// Build tag: lab. Run: make test-e2e
package multihop
