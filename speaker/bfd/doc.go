// Package bfd is Bidirectional Forwarding Detection: the control packet and
// one side of a session, in asynchronous mode, with the echo function and with
// authentication by SHA1.
//
// It knows RFC 5880, and of RFC 5881 and 5883 what concerns a single session.
// It refuses to know clocks, sockets, addresses and chance: the time is an
// argument, packets go in and out as values, and jitter comes from a seed. So
// the same history always gives the same session.
//
//	s := bfd.New(now, bfd.Config{Discriminator: d, Seed: seed}, parameters)
//	out := s.Step(now, bfd.Event{Kind: bfd.Received, Packet: &p, Raw: raw})
//	// send out.Packets, step again with a Tick at out.Next
//
// Whose packet it is (RFC 5880, section 6.3), and whether it came far enough
// (RFC 5881, section 5), is for the caller to find out: that is package udp,
// the only one. A session that says Down because of silence relies on the
// caller's promise that all that arrived was handed in.
package bfd
