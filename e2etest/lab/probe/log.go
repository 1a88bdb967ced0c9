package probe

import (
	"slices"
	"sync"
	"time"
)

// log remembers every probe of one target, in the order of their starts.
type log struct {
	mu      sync.Mutex
	entries []entry
	errors  map[string]int
	broken  int
}

type entry struct {
	start time.Time
	took  time.Duration
	ok    bool
}

// begin notes the start of a probe and returns its place.
func (l *log) begin(start time.Time) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entry{start: start})
	return len(l.entries) - 1
}

// end notes how a probe went.
func (l *log) end(slot int, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[slot].took = took
	l.entries[slot].ok = err == nil
	if err != nil {
		if l.errors == nil {
			l.errors = map[string]int{}
		}
		l.errors[kind(err)]++
	}
}

// result sums up; now is the end of the run, which ends an open outage.
func (l *log) result(t Target, now time.Time) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Result{Target: t.String(), Total: len(l.entries), Errors: l.errors, Broken: l.broken}
	var took []time.Duration
	// lastGood is the start of the last success, or of the run.
	var lastGood time.Time
	out := false
	longer := func(until time.Time, open bool) {
		if gap := until.Sub(lastGood); gap > r.Longest {
			r.Longest, r.Since, r.Open = gap, lastGood, open
		}
	}
	for i, e := range l.entries {
		if i == 0 {
			lastGood = e.start
		}
		if !e.ok {
			r.Lost++
			out = true
			continue
		}
		took = append(took, e.took)
		if out {
			longer(e.start, false)
			out = false
		}
		lastGood = e.start
	}
	if out {
		longer(now, true)
	}
	if len(took) > 0 {
		slices.Sort(took)
		r.P50, r.P99, r.Max = took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
	}
	return r
}
