// Package progress tells how a long benchmark gets on, and waits for its steps.
package progress

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// Step logs progress at once: the testing package holds a benchmark's log back
// until its end.
func Step(b testing.TB, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", time.Now().Format("15:04:05.000"), b.Name(), fmt.Sprintf(format, args...))
}

// Load logs how busy the machine is, without which a time says little.
func Load(b testing.TB, when string) {
	b.Helper()
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		b.Fatal(err)
	}
	Step(b, "%s; load %s", when, strings.Join(strings.Fields(string(raw))[:3], " "))
}

// Until polls a condition until it holds, and fails with its last complaint when
// the time is over, its own or that of ctx.
func Until(ctx context.Context, b testing.TB, what string, within, every time.Duration, condition func() error) {
	b.Helper()
	end := time.NewTimer(within)
	defer end.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			b.Fatalf("%s: not within %s: %v", what, within, err)
		case <-ctx.Done():
			b.Fatalf("%s: the benchmark's time is over: %v", what, err)
		}
	}
}
