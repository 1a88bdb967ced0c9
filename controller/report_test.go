package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/heraldlb/herald/internal/config"
)

func TestProblemsFitIntoACondition(t *testing.T) {
	const maxLength = 32768 // by the schema
	problem := func(length int) config.Problem {
		return config.Problem{Kind: "IPAddressPool", Name: "p", Field: "spec.addresses[0]", Message: strings.Repeat("ü", length)}
	}
	for _, tt := range []struct {
		name        string
		count, size int
		ends        string
	}{
		{"one", 1, 10, "ü"},
		{"one that quotes a book", 1, 100_000, "more bytes"},
		{"as many as fit", maxProblems, 10, "ü"},
		{"many", maxProblems + 7, 10, "and 7 more"},
		{"many that quote books", 200, 100_000, "more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var problems []config.Problem
			for range tt.count {
				problems = append(problems, problem(tt.size))
			}
			text := "configuration error: " + lines(problems)
			if len(text) > maxLength || !utf8.ValidString(text) || !strings.HasSuffix(text, tt.ends) {
				t.Errorf("%d bytes, valid %t, end with %q; want at most %d, and %q", len(text), utf8.ValidString(text), text[max(0, len(text)-30):], maxLength, tt.ends)
			}
			told := strings.Count(text, "IPAddressPool p")
			var more int
			if _, err := fmt.Sscanf(text[strings.LastIndex(text, "\n")+1:], "and %d more", &more); err != nil {
				more = 0
			}
			if told+more != tt.count {
				t.Errorf("%d told and %d more, want %d in all", told, more, tt.count)
			}
		})
	}
}

// A report that the API refuses is tried again, ever more rarely.
func TestRefusedReportsAreTriedEverMoreRarely(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		tries := 0
		f.refuseReport = func() error {
			tries++
			return errors.New("the status is not accepted")
		}
		f.putPool("main", "10.0.0.0/24")
		begin(t, f)
		rest(10 * time.Minute)
		if tries > 30 {
			t.Errorf("%d tries in ten minutes", tries)
		}
		f.mu.Lock()
		f.refuseReport = nil
		f.mu.Unlock()
		rest(time.Minute)
		if got := f.pool("main").Status.AvailableIPv4; got != 256 {
			t.Errorf("available %d, want 256", got)
		}
	})
}
