// Package v6only tells Herald's BGP in a cluster without IPv4: nodes, routers and
// clients have IPv6 addresses only.
//
// Build tag: lab. Run: make test-e2e
package v6only
