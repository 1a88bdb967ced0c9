// Package gobgp is the BGP room. It keeps the wanted sessions, tells each peer
// its routes and says what was reached. Inside are one embedded GoBGP server a
// peer, and this package's own gate between that server and the peer; see
// docs/design/0005-gobgp.md for why.
//
// The room dials and listens itself (dial.go, listen.go): addresses, keys, hop
// limits, interfaces and VRFs are matters of its sockets. The library is reached
// over the loopback device (library.go); the gate (gate.go) reads every message
// of a peer, judges it with package bgp, and hands the library messages of its
// own making. So the library learns no route and decodes nothing that a peer
// wrote; and the room knows first-hand what each side said.
//
// Only package speaker's wiring calls it. It knows nothing of Services, nodes or
// elections.
package gobgp
