// Package udp keeps BFD sessions with other systems over UDP.
//
// It knows sockets, discriminators, whose packet is whose, hop limits and the
// moments at which sessions want to be stepped. It refuses to know the state
// machine, which is package bfd, and what a session is good for: which sessions
// to keep comes as desired.BFD, and what they reached goes out as
// observed.BFD. The speaker's wiring is its only caller.
//
//	r, err := udp.New(udp.Config{…})
//	r.Set(want)      // the whole wanted state
//	r.Run(ctx)       // sockets, goroutines and timers live and end here
//	r.Observed()
//
// One lock guards all sessions. Packets are read from a socket only under it, so
// whoever holds it and finds the sockets empty knows that every packet that has
// arrived has been judged. That is what lets the room say "silence" and not "we
// did not run": a session is only told that its time is over after the sockets
// were drained, and packets count from the kernel's time of arrival.
//
// Inside: room.go has the face, run.go the loop, sessions.go makes and ends
// sessions, receive.go finds the session of a packet, timers.go is a heap,
// kernel.go says what is needed of the kernel, and socket.go and echo.go are
// the only files with system calls.
package udp
