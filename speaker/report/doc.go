// Package report tells the cluster what this node decided and does: which node
// announces each Service, why a Service is not announced, and what is wrong
// with the configuration.
//
// It knows the objects to write and who writes which:
//
//   - ServiceL2Status: the announcing node keeps exactly one for each Service,
//     named after the Service and itself, and removes the others' and its own
//     leftovers. The DaemonSet owns it, not the pod: a speaker that restarts
//     finds everything told already and writes nothing, where MetalLB writes
//     every object anew. What a node leaves that is no more is removed by the
//     Service's next reporter or, if the Service is gone too, by the first node.
//   - The condition heraldlb.io/Announced of a Service: the one node that its
//     Decision calls the reporter. It is written by server-side apply under the
//     speakers' own field owner, so it never meets the controller's condition. It
//     also says so when no interface announces what this node owns.
//   - Events: nodeAssigned and announceFailed on a Service, only when that
//     condition changes, which holds over restarts; and on an object of the
//     configuration, from the first node.
//   - ConfigurationState of this node.
//   - Metrics with MetalLB's names.
//
// decide.go and state.go hold what is written, as pure functions of what was
// decided and what is there; report.go is the room around them. It refuses to
// know why anything was decided. The speaker's loop calls Changed, BecameFirst
// and SetProblems, layer 2 calls Reached, and none of them blocks; everything
// that fails is tried again inside, and the cost follows what has changed.
package report
