// Package plan decides which node announces which Service over layer 2, from
// which interfaces, and why every other node does not.
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
// The steps are separate so that the caller pays only for what changed:
//
//	Compile  facts → Cluster            once for a change of nodes, members or configuration
//	Ballot   Cluster × Group → who may  once for a change of the group
//	Elect    Ballot → Election          resumes the last election: only new candidates are hashed
//	Decide   Ballot × Election × node   the verdict and its reason, for each Service
//
// Compute does all of it for a whole world and is the oracle for the
// incremental path in package index, which is also the only other caller.
// Tests: tables, stories in testdata/*.txtar (-update rewrites them), and
// properties on random worlds.
package plan
