// Package l2 answers ARP and NDP for addresses that no interface holds, and
// tells the neighbours when it begins to.
//
// It knows frames, sockets, multicast groups and how the table of addresses
// becomes a kernel packet filter. It refuses to know Services, nodes,
// elections and configuration: what to announce comes as desired.L2, the
// interfaces come as observed.Links, and what it truly reached goes out as
// observed.L2. The speaker's wiring is its only caller.
//
// The room has one face:
//
//	a, err := l2.New(l2.Config{…})
//	a.SetLinks(links)   // the interfaces it may announce from
//	a.Set(want)         // or a.Apply(change)
//	a.Run(ctx)          // sockets, goroutines and timers live and end here
//
// Everything that it does follows from two inputs, the table and the links:
// the packet filter, the solicited-node groups, the bursts and the answers.
// Nothing is counted up and down, so any history that ends in the same inputs
// ends in the same state.
//
// What is heard decides only on when to speak: an address that another station
// announces as well is announced again a second later, and at most every ten
// seconds, so neighbours that a split or a wrong suspicion has misled come back.
//
// Inside: table.go and ports.go are what the packet path reads without a lock;
// arp.go and ndp.go decide on one frame; filter.go turns addresses into a
// classic BPF program; burst.go decides when to send what, and
// contest.go notes who else announces; groups.go derives
// the multicast groups; loop.go carries decisions out; kernel.go is the only
// file with sockets.
package l2
