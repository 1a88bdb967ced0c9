// Package ipam decides which Service has which addresses.
//
// It is pure: no clock, no randomness, no client, no logger. One Allocator is
// one owner's value: it is told of pools, namespaces and Services, and answers
// with Decisions. The same history gives the same answers, and a history is
// never needed to explain one: each "no" carries a reason and a sentence.
//
// What it promises:
//
//   - Two Services own one address only if both carry the same sharing key,
//     have the same backends and no port in common.
//   - No address outside a pool is given out.
//   - A valid holder never moves. Telling the Allocator the same thing twice
//     changes nothing.
//   - An address that a waiting Service asks for by name is not given to
//     another Service that would take any.
//   - A freed address goes at once to the oldest Service that waits for it.
//   - The cost of a decision does not depend on how many Services there are or
//     how full a pool is.
//
// The controller's loop calls it and nobody else does. It refuses to know
// where Services come from, and how decisions reach the API server.
package ipam
