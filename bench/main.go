// Bench runs the benchmarks behind the project's figures and compares each
// figure with its budget. It knows budgets.txt and how go test prints a
// benchmark, and nothing of what is measured. It always exits 0 once it has
// printed every figure: a budget is information, not a gate.
//
//	go run ./bench -run 'ipam|takeover'
//
// prints one line per figure:
//
//	BENCH ipam.fill16_ms 42.1 ms budget<=150 ok
package main

import (
	"context"
	_ "embed"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
)

//go:embed budgets.txt
var budgets string

func main() {
	only := flag.String("run", "", "`regexp` of the figures to measure (empty: all)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, only string) error {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	figures, err := parseBudgets(budgets)
	if err != nil {
		return err
	}
	chosen, needed := choose(figures, wanted)
	if len(chosen) == 0 {
		return fmt.Errorf("-run %q: no figure has such a name; bench/budgets.txt lists them", only)
	}
	warnIfBusy()
	values := map[string]float64{}
	printed := map[string]bool{}
	for _, folder := range folders(needed) {
		if err := measure(ctx, folder, needed, values); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", folder, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		// Lines come as soon as they are known: a run of all takes a while.
		for _, f := range chosen {
			if f.folder == folder && !printed[f.name] {
				fmt.Println(f.line(values))
				printed[f.name] = true
			}
		}
	}
	return nil
}

// warnIfBusy says so when others use the processors, which makes every figure
// worse than it is.
func warnIfBusy() {
	var load float64
	content, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return
	}
	if _, err := fmt.Sscan(string(content), &load); err == nil && load > float64(runtime.NumCPU()) {
		fmt.Fprintf(os.Stderr, "bench: the machine is busy (load %.1f on %d processors): expect figures that are too high\n", load, runtime.NumCPU())
	}
}
