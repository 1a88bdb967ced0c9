// Echo is the workload of the demo and of the end-to-end tests: a server that
// answers over HTTP, TCP and UDP with the name of its pod and the address of the
// client as it saw it, so that one answer tells who served whom, and whether the
// client's address survived the way. It knows nothing of Herald.
//
//	echo                         serves until SIGTERM, and -grace longer
//	echo ask tcp 192.0.2.1:9000  asks such a server once and prints its answer
//
// It is one static binary of the standard library only.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if len(args) > 0 && args[0] == "ask" {
		return ask(ctx, os.Stdout, args[1:])
	}
	s := &server{pod: podName()}
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.StringVar(&s.httpAddress, "http", env("ECHO_HTTP", ":8080"), "HTTP `address` (env ECHO_HTTP; empty: off)")
	flags.StringVar(&s.tcpAddress, "tcp", env("ECHO_TCP", ":9000"), "TCP `address` (env ECHO_TCP; empty: off)")
	flags.StringVar(&s.udpAddress, "udp", env("ECHO_UDP", ":9000"), "UDP `address` (env ECHO_UDP; empty: off)")
	flags.DurationVar(&s.grace, "grace", 2*time.Second, "how long to keep serving after SIGTERM, while proxies learn that this pod goes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q; expected flags only, or: ask http|tcp|udp HOST:PORT", flags.Arg(0))
	}
	return s.run(ctx)
}

// podName is what the pod's owner would call it. The kubelet sets HOSTNAME to
// the pod's name.
func podName() string {
	for _, key := range []string{"POD_NAME", "HOSTNAME"} {
		if name := os.Getenv(key); name != "" {
			return name
		}
	}
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return name
}

func env(key, otherwise string) string {
	if value, ok := os.LookupEnv(key); ok {
		return value
	}
	return otherwise
}
