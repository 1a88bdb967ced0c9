// Package membership knows which speakers are alive, and what each says of
// itself: its phase and its interfaces.
//
// It is the only package that knows hashicorp/memberlist. It refuses to know
// Kubernetes, Services and addresses: its caller hands it the peers' addresses,
// and reads observed.Members from it. One Ring is one membership; Run owns its
// sockets, timers and goroutines.
//
// # Not knowing is a state
//
// Members.Settled tells the plan whether "who is alive" may be believed. The
// rule, whole in settle.go:
//
//   - No key, no ring. While the secret is missing or empty nothing is sent or
//     accepted, and the view is this node alone, not settled.
//   - The peers must have been listed once. Without the list nobody can tell a
//     lone node from one that has not found the others.
//   - Nobody else is listed: settled at once. A single node serves.
//   - Joined: settled, a moment (Gather) after the first member answered, so
//     that speakers which start together see each other before they decide.
//   - Peers are listed but none could be joined within Grace: settled alone. A
//     node that is cut off serves what it can.
//   - A listed peer answers, but under another key: it is alive, and only the
//     key is wrong. If it serves (Peer.Ready), this side waits, however many it
//     is; a side whose own members serve goes on. If nobody serves yet, the side
//     with more speakers settles; between equal sides the one that holds the
//     first node name. Who waits announces nothing, and says so in
//     Members.Waiting. So a wrong key never means that everybody is alive, nor
//     that a speaker which starts takes an address from another that owns it.
//     Only the answer to our own call of a listed peer counts; a stranger that
//     throws packets at the port changes nothing.
//
// What remains is a split between sides that have both settled. If one node
// never receives a new key, the others drop the old one after LearnWithin, and
// each side then takes the other for dead: both announce, until the secret is
// the same again. So do two sides that start within the moment that the cluster
// takes to learn of a settled speaker that it is ready, if they did not hear of
// each other before.
//
// Once settled, a ring stays settled: a serving node does not stop because a
// secret vanished or a network broke.
//
// # The key
//
// All traffic is encrypted with AES-256-GCM, always. The key is PBKDF2 with
// HMAC-SHA-256 over the secret's text: 600,000 rounds and a fixed salt of the
// product, since all nodes must reach the same key from the text alone. The
// secret that the controller makes has 128 random bits and needs no stretching;
// the rounds are for secrets that people type. One derivation takes about 90 ms
// of one core, once per start and once per change of the text.
//
// To rotate, replace the secret's data and wait. Each node re-reads its mounted
// file every few seconds. A new key is first accepted, then, as soon as every
// member of the ring says that it accepts it too, used for sending; and when
// every member sends with it, the old one is dropped. A member that never
// learns it delays each step by at most LearnWithin. A speaker that restarts in
// between knows the new key only; it waits, not settled, until the others send
// with it.
//
// # Shared state
//
// A member's state is one small message with a version: the start time of the
// process and a counter. Newer beats older whatever the path and the order of
// arrival. Small states travel by gossip, large ones directly over TCP; each
// push/pull exchange carries all of them; and memberlist's 512 bytes of
// metadata carry the phase and the version, so that a node notices at once
// what it lacks and fetches it. A member whose state has not arrived has
// Known=false.
//
// # The profile
//
// Tuning explains each number. A silent node is declared dead in about one
// second with 3 nodes and in about 1.6 s with 100.
package membership
