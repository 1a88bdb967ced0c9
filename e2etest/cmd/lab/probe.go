package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/heraldlb/herald/e2etest/lab"
	"github.com/heraldlb/herald/e2etest/lab/probe"
)

// probeCommand measures outages until ^C or the end of --for.
func probeCommand(ctx context.Context, args []string) error {
	var o probe.Options
	var from string
	var duration time.Duration
	var here, asJSON bool
	t, rest, err := parse("probe", args, func(fs *flag.FlagSet) {
		fs.StringVar(&from, "from", "client1", "the host that probes")
		fs.DurationVar(&o.Interval, "interval", probe.DefaultInterval, "between two probes of a target")
		fs.DurationVar(&o.Timeout, "timeout", probe.DefaultTimeout, "when a probe counts as lost")
		fs.DurationVar(&duration, "for", 0, "end after this time (default: at ^C)")
		fs.BoolVar(&asJSON, "json", false, "print JSON")
		fs.BoolVar(&here, "here", false, "probe from where the command runs, until standard input ends; for the lab itself")
	})
	if err != nil {
		return err
	}
	for _, arg := range rest {
		target, err := probe.ParseTarget(arg)
		if err != nil {
			return err
		}
		o.Targets = append(o.Targets, target)
	}
	if here {
		return probeHere(ctx, o)
	}
	c, err := t.attach()
	if err != nil {
		return err
	}
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	p, err := c.Probe(context.WithoutCancel(ctx), from, o)
	if err != nil {
		return err
	}
	<-ctx.Done()
	results, err := p.Stop()
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(os.Stdout).Encode(results)
	}
	return printResults(os.Stdout, results)
}

// probeHere is the side of a probe that runs inside the host.
func probeHere(ctx context.Context, o probe.Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // returns when the caller has enough, or is gone
		cancel()
	}()
	fmt.Println(lab.ProbeStarted)
	results, err := probe.Run(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// printResults writes a line for each target.
func printResults(w io.Writer, results []probe.Result) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TARGET\tTOTAL\tLOST\tLONGEST OUTAGE\tP50\tP99\tMAX\tWHAT WENT WRONG")
	for _, r := range results {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", r.Target, r.Total, r.Lost, outage(r),
			millis(r.P50), millis(r.P99), millis(r.Max), wrong(r))
	}
	return tw.Flush()
}

func outage(r probe.Result) string {
	switch {
	case r.Lost == 0:
		return "none"
	case r.Open:
		return millis(r.Longest) + " and not over"
	default:
		return millis(r.Longest)
	}
}

func wrong(r probe.Result) string {
	var parts []string
	for what, n := range r.Errors {
		parts = append(parts, fmt.Sprintf("%d × %s", n, what))
	}
	if r.Broken > 0 {
		parts = append(parts, fmt.Sprintf("%d connections broke", r.Broken))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

func millis(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
