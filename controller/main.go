// Command controller gives addresses to Services of type LoadBalancer. It runs
// in the Deployment config/controllers; of its replicas one works and the
// others stand by with warm caches.
//
// The folder holds the process: options.go reads the flags, run.go wires it,
// kube.go is the cluster as the loop sees it, sync.go is the one loop that
// takes notes from the inbox and asks ipam, write.go and report.go have the
// answers written, and outcome.go says what is to be written. Who gets which
// address is decided in ipam, and nowhere else.
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
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(2)
	}
	log, err := manager.NewLogger(os.Stdout, o.process.LogLevel)
	if err != nil {
		fmt.Fprintln(os.Stderr, "controller:", err)
		os.Exit(2)
	}
	manager.AdoptLibraries(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, o, log); err != nil {
		log.Error("the controller stops", "err", err)
		os.Exit(1)
	}
}
