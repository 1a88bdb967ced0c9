// Package index turns events into the few sharing groups that they touch, and
// keeps the present decisions of one node.
//
// It knows which Service is in which group and what was decided last; how to
// decide is plan's. An event about one Service costs the same among ten
// Services and among fifty thousand; over BGP it costs the prefixes of that
// Service, whoever else is in them. A change of nodes, members or
// configuration asks every group again, but each election resumes where it
// stood, so only the candidates that are new are looked at.
//
// The state after any history of events equals plan.Compute of the world that
// they left (a property test). The loop in package speaker is the only caller;
// an Index belongs to one goroutine.
package index
