//go:build lab

package harness

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// Patience is how long a test waits for what should take moments: the machine
// may be busy with other work.
const Patience = 20 * time.Second

// pollInterval is the pause between two looks at something.
const pollInterval = 40 * time.Millisecond

// Test is one test's part of the lab.
type Test struct {
	*testing.T
	*World
	// Namespace is the test's own.
	Namespace string
	// Ctx ends with the test's time, see limit.
	Ctx context.Context

	whole bool // WholeAtEnd was called
}

// limit bounds a test: a test that hangs fails, and the others get their turn.
const limit = 2 * time.Minute

// cleanupLimit bounds one step of the cleaning up.
const cleanupLimit = 30 * time.Second

var notDNS = regexp.MustCompile(`[^a-z0-9]+`)

// New gives a test its part of the lab: a fresh namespace, which goes with it.
func New(t *testing.T) *Test {
	t.Helper()
	if world == nil {
		t.Fatal("the lab is not up: TestMain must call harness.Main")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	name := strings.Trim(notDNS.ReplaceAllString(strings.ToLower(strings.TrimPrefix(t.Name(), "Test")), "-"), "-")
	name = fmt.Sprintf("%.40s-%s", name, rand.String(4))
	h := &Test{T: t, World: world, Namespace: name, Ctx: ctx}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"e2e": name}}}
	if _, err := h.Kube.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		t.Fatalf("create the test's namespace: %v", err)
	}
	h.OnEnd("delete the namespace", func(ctx context.Context) error {
		return h.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	})
	// Registered after, so it runs before everything is deleted.
	t.Cleanup(h.dumpIfFailed)
	return h
}

// OnEnd registers what takes back something the test did. The last one registered
// runs first.
func (h *Test) OnEnd(what string, undo func(context.Context) error) {
	h.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupLimit)
		defer cancel()
		if err := undo(ctx); err != nil {
			h.Errorf("clean up: %s: %v", what, err)
		}
	})
}

// Must ends the test if err is not nil.
func (h *Test) Must(err error) {
	h.Helper()
	if err != nil {
		h.dumpNow()
		h.Fatal(err)
	}
}

// Eventually waits until a condition holds, for at most limit; its last complaint
// is then the reason of the failure.
func (h *Test) Eventually(limit time.Duration, condition func() error) {
	h.Helper()
	h.Must(poll(h.Ctx, limit, condition))
}

func poll(ctx context.Context, limit time.Duration, condition func() error) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		select {
		case <-end.C:
			return fmt.Errorf("not within %s: %w", limit, err)
		case <-ctx.Done():
			return fmt.Errorf("the test's time is over: %w", err)
		case <-tick.C:
		}
	}
}

// Always checks again and again, for the whole of a time, that a condition holds.
func (h *Test) Always(during time.Duration, condition func() error) {
	h.Helper()
	start := time.Now()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for time.Since(start) < during {
		if err := condition(); err != nil {
			h.Must(fmt.Errorf("after %s: %w", time.Since(start).Round(time.Millisecond), err))
		}
		select {
		case <-h.Ctx.Done():
			h.Must(fmt.Errorf("the test's time is over"))
		case <-tick.C:
		}
	}
}

// Step names a part of a longer story, in the output of a test.
func (h *Test) Step(format string, args ...any) {
	h.Helper()
	h.Logf("%s  "+format, append([]any{time.Now().Format("15:04:05.000")}, args...)...)
}
