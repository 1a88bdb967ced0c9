// Command lab makes a Kubernetes cluster out of processes and network namespaces,
// and everything that can go wrong in one. "lab help" lists its commands.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/heraldlb/herald/e2etest/lab/agent"
)

// command is one of the lab's commands.
type command struct {
	usage string
	help  string
	run   func(ctx context.Context, args []string) error
}

func commands() map[string]command {
	return map[string]command{
		"build":   {"build", "build the lab and its images into e2etest/bin", build},
		"up":      {"up [flags]", "make a lab and leave it running", up},
		"down":    {"down [--name N]", "end a lab, or remove what a crashed one left", down},
		"status":  {"status [--name N]", "show a lab's hosts and addresses", status},
		"kubectl": {"kubectl [--name N] ARGS...", "run kubectl as the administrator", kubectl},
		"exec":    {"exec [--name N] HOST -- PROGRAM ARGS...", "run a program on a node, client or router, \"switch\" or \"cp\"", execute},
		"fault":   {"fault [--name N] FAULT ARGS...", "break something, or mend it", fault},
		"probe":   {"probe [--name N] [flags] TARGET...", "measure the outage of addresses", probeCommand},
		"image":   {"image [--name N] IMAGE=BINARY...", "make binaries known as images", image},
		// Used by the lab itself.
		"supervise": {"", "", supervise},
		"agent":     {"", "", agent.Main},
	}
}

func main() {
	agent.MaybeInit()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && quiet(os.Args[1:]):
		os.Exit(exit.ExitCode()) // the program has said itself what is wrong
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// quiet reports whether the command passes on another program's exit status.
func quiet(args []string) bool {
	return len(args) > 0 && (args[0] == "kubectl" || args[0] == "exec")
}

func run(ctx context.Context, args []string) error {
	known := commands()
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		help(known)
		return nil
	}
	c, ok := known[args[0]]
	if !ok {
		return fmt.Errorf("no command %q; lab help lists them", args[0])
	}
	return c.run(ctx, args[1:])
}

func help(known map[string]command) {
	var lines []string
	for _, c := range known {
		if c.help != "" {
			lines = append(lines, fmt.Sprintf("  lab %-46s %s", c.usage, c.help))
		}
	}
	slices.Sort(lines)
	fmt.Printf("lab: a Kubernetes cluster of processes and network namespaces\n\n%s\n\nfaults:\n%s\n",
		strings.Join(lines, "\n"), faultHelp)
}

const faultHelp = `  power-off NODE|ROUTER       cut its links and freeze it      power-on NODE|ROUTER  boot it again
  pause NODE|ROUTER           the same                         resume NODE|ROUTER    let it go on where it was
  link-down HOST [INTERFACE]  pull its cables                  link-up HOST [INTERFACE]
  partition HOST...           those cannot hear the others     heal
  stop HOST PROGRAM           of cp: kube-apiserver, etcd ...  start HOST PROGRAM
                              of a node: agent, kube-proxy
                              of a router: zebra, bgpd, bfdd, bird
  kill HOST PROGRAM           kill -9, in whatever pod it is`
