// Command speaker announces the addresses of Services from one node: it runs
// once on every node of the cluster, in the DaemonSet config/controllers.
//
// The folder holds the process: options.go reads the flags, run.go wires the
// rooms, watch.go turns the API's events into notes in the inbox, and sync.go
// is the one loop that takes the notes, asks the plan and tells the rooms.
// What is decided lies in plan and index; what is done lies in the rooms.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/heraldlb/herald/internal/manager"
)

func main() {
	o, err := parseOptions(os.Args[1:], os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "speaker:", err)
		os.Exit(2)
	}
	log, err := manager.NewLogger(os.Stdout, o.process.LogLevel)
	if err != nil {
		fmt.Fprintln(os.Stderr, "speaker:", err)
		os.Exit(2)
	}
	manager.AdoptLibraries(log)
	// The first signal starts the drain; a second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, o, log); err != nil {
		log.Error("the speaker stops", "err", err)
		os.Exit(1)
	}
}
