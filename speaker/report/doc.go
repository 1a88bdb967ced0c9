// Package report tells the cluster what this node decided and does: which nodes
// announce each Service, why a Service is not announced, what becomes of the BGP
// sessions, and what is wrong with the configuration.
//
// It knows the objects to write and who writes which:
//
//   - ServiceL2Status: the announcing node keeps exactly one for each Service,
//     named after the Service and itself, and removes the others' and its own
//     leftovers. The DaemonSet owns it, not the pod: a speaker that restarts
//     finds everything told already and writes nothing, where MetalLB writes
//     every object anew. What a node leaves that is no more is removed by the
//     Service's next reporter or, if the Service is gone too, by the first node.
//   - ServiceBGPStatus: one for each Service, not one for each node as well. The
//     node that reports writes it, whoever that is at the time, and it names all
//     nodes that advertise the Service, and to which peers. While pods move it
//     follows when the move is over.
//   - The condition heraldlb.io/Announced of a Service, for both protocols: the
//     one node that its Decisions call the reporter. It is written by server-side
//     apply under the speakers' own field owner, so it never meets the
//     controller's condition. It also says so when no interface announces what
//     this node owns. It names the first nodes only, so that a node that comes or
//     goes does not cost a write for each Service.
//   - Events: nodeAssigned, announceFailed and serviceWithdrawn on a Service, only
//     when the condition or the ServiceBGPStatus changes accordingly, which holds
//     over restarts; and on an object of the configuration, from the first node.
//   - BGPSessionStatus: one for each session of this node, dynamic neighbours each
//     for itself. A change of state is told at once and mere numbers slowly; a
//     session that flaps is told every few seconds. Events on the BGPPeer follow
//     what the object said before. The first node removes what nodes left that
//     are no more.
//   - ConfigurationState of this node.
//   - Metrics with MetalLB's names.
//
// decide.go, condition.go, bgpstatus.go, session.go and state.go hold what is
// written, as pure functions of what was decided and what is there; the rest is
// the room around them. It refuses to know why anything was decided. The
// speaker's loop calls Changed, Drop, BecameFirst, SessionsChanged and
// SetProblems, layer 2 calls Reached, and none of them blocks; everything that
// fails is tried again inside, and the cost follows what has changed.
package report
