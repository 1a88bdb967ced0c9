package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestExcludeFileIsFollowed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "excludel2.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		in := newInbox()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- watchExclude(ctx, path, slog.New(slog.NewTextHandler(&log, nil)), in) }()
		excluded := func(when string, want map[string]bool) {
			t.Helper()
			time.Sleep(excludeEvery + time.Millisecond)
			synctest.Wait()
			n := in.take()
			if n.exclude == nil {
				t.Fatalf("%s: nothing was noted", when)
			}
			for name, want := range want {
				if got := n.exclude.Matches(name); got != want {
					t.Errorf("%s: %s is excluded: %v, want %v", when, name, got, want)
				}
			}
		}
		excluded("without a file", map[string]bool{"veth1": false})
		write("announcedInterfacesToExclude: [^veth]")
		excluded("with a file", map[string]bool{"veth1": true, "eth0": false})
		write("announcedInterfacesToExclude: ['^(', ^eth]")
		excluded("with a pattern that is wrong", map[string]bool{"veth1": false, "eth0": true})
		if !strings.Contains(log.String(), "announcedInterfacesToExclude[0]") {
			t.Errorf("the log does not name the wrong pattern:\n%s", &log)
		}
		write("announcedInterfacesToExclude: [^eth")
		time.Sleep(2 * excludeEvery)
		synctest.Wait()
		if in.take().exclude != nil {
			t.Error("a file that cannot be understood replaced the patterns in force")
		}
		if n := strings.Count(log.String(), "those before stay in force"); n != 1 {
			t.Errorf("the log says %d times that the patterns stay, want once:\n%s", n, &log)
		}
		write("announcedInterfacesToExclude: ['^(', ^eth]")
		excluded("with the file before", map[string]bool{"veth1": false, "eth0": true})
		time.Sleep(2 * excludeEvery)
		synctest.Wait()
		if in.take().exclude != nil {
			t.Error("a file that did not change is noted")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		excluded("without a file again", map[string]bool{"eth0": false})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
