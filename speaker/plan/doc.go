// Package plan decides which node announces which Service, over layer 2 from
// which interfaces and over BGP to which peers with which attributes, and why
// every other node does not; and which BGP and BFD sessions a node keeps.
//
// It is pure. It knows the facts that all nodes of the cluster share (objects
// of the API, the membership ring) and answers the same on every node; it
// holds no clock, socket, client or logger, and nothing that only one node
// knows may decide who wins.
//
// Ownership is by sharing group: all addresses that Services tie together,
// one shared by several Services or the two of a dual-stack Service, have one
// owner. It is elected by the first address of the group's oldest Service:
// highest preference score, then smallest SHA-256 of "node#address".
//
// Over BGP nobody is elected: each node advertises what it may serve. The
// routes of a node are merged by prefix from what its Services offer.
//
// The steps are separate so that the caller pays only for what changed:
//
//	Compile  facts → Cluster            once for a change of nodes, members or configuration
//	Ballot   Cluster × Group → who may  once for a change of the group
//	Elect    Ballot → Election          resumes the last election: only new candidates are hashed
//	Decide   Ballot × Election × node   the verdicts and their reasons, for each Service
//	Offers   Ballot × node → prefixes   what each Service brings to the node's peers
//	Merge    Offers of one prefix       what each peer is told of it
//
// Compute does all of it for a whole world and is the oracle for the
// incremental path in package index, which is also the only other caller.
// Tests: tables, stories in testdata/*.txtar (-update rewrites them), and
// properties on random worlds.
package plan
