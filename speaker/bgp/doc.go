// Package bgp is the pure heart of BGP: which sessions and which routes differ,
// what stands in the messages that cross between the library and the peers, when
// a session that BFD has ended may try again, and which next hops a session can
// use. It knows no socket, clock or library; speaker/bgp/gobgp is its caller.
//
// Of the messages it reads only what is needed to stand between a peer and the
// library: everything that a peer sends is judged here, and none of its octets
// reach the library's decoders.
package bgp
