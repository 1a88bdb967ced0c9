package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// limit ends a folder's benchmarks that hang.
const limit = time.Hour

// measure runs the benchmarks of a folder that figures need, and adds the median
// of each figure to values.
func measure(ctx context.Context, folder string, figures []figure, values map[string]float64) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if strings.HasPrefix(folder, labModule) {
		if err := buildLab(ctx); err != nil {
			return err
		}
	}
	cmd := command(ctx, folder, figures)
	fmt.Fprintf(os.Stderr, "bench: %s: %s\n", folder, strings.Join(cmd.Args, " "))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, os.Stderr), os.Stderr
	err := cmd.Run()
	collect(&out, folder, figures, values)
	if err != nil {
		return fmt.Errorf("go test: %w", err)
	}
	return nil
}

// labModule is the folder of the module whose benchmarks need the whole cluster.
const labModule = "e2etest/"

// buildLab makes what those benchmarks start. It takes no time when it is fresh.
func buildLab(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", "lab-build")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make lab-build: %w", err)
	}
	return nil
}

// command is the go test that runs them. The lab is another module, built
// without cgo as Kubernetes is, and its benchmarks know themselves how often
// they repeat what takes minutes.
func command(ctx context.Context, folder string, figures []figure) *exec.Cmd {
	var names []string
	for _, f := range figures {
		if first, _, _ := strings.Cut(f.benchmark, "/"); f.folder == folder && !slices.Contains(names, first) {
			names = append(names, first)
		}
	}
	args := []string{"test", "-run", "^$", "-bench", "^(" + strings.Join(names, "|") + ")$", "-benchmem", "-timeout", limit.String()}
	inLab, lab := strings.CutPrefix(folder, labModule)
	if lab {
		args = append(args, "-tags", "lab", "-benchtime", "1x", "-count", "1", "./"+inLab)
	} else {
		args = append(args, "-tags", "netns", "-count", "5", "./"+folder)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	if lab {
		cmd.Dir = labModule
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	// go test passes the signal on to the benchmark, which cleans up.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	return cmd
}

// processors is what go test appends to a benchmark's name.
var processors = regexp.MustCompile(`-\d+$`)

// collect reads go test's lines "BenchmarkX-2  100  5 ns/op  0 allocs/op".
func collect(out io.Reader, folder string, figures []figure, values map[string]float64) {
	runs := map[string][]float64{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				break
			}
			for _, f := range figures {
				if f.folder != folder || f.metric != fields[i+1] {
					continue
				}
				if fields[0] == f.benchmark || processors.ReplaceAllString(fields[0], "") == f.benchmark {
					runs[f.name] = append(runs[f.name], value*scale(f))
				}
			}
		}
	}
	for name, all := range runs {
		slices.Sort(all)
		values[name] = all[len(all)/2]
	}
}

// scale turns nanoseconds per operation into the figure's unit.
func scale(f figure) float64 {
	if f.metric != "ns/op" {
		return 1
	}
	switch f.unit {
	case "us":
		return 1e-3
	case "ms":
		return 1e-6
	case "s":
		return 1e-9
	}
	return 1
}
