// Demo shows Herald's main job on real Kubernetes clusters that it makes on this
// machine, with real output, and checks everything it shows: first on a flat
// network, by layer 2, then behind an FRR router, by BGP with BFD. Its last line
// is "DEMO OK" with the measured figures, and its exit status is 0, only if all
// of it was true.
//
// PART=layer2 or PART=bgp plays one part only. KEEP=1 leaves the last cluster up,
// with its Services, and prints how to play with it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit bounds the whole demo, a cold build of Kubernetes included.
const limit = 25 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := run(ctx, os.Stdout, os.Getenv("PART"), os.Getenv("KEEP") == "1"); err != nil {
		fmt.Println("DEMO FAILED:", err)
		os.Exit(1)
	}
}
