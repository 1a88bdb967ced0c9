package bgp

import "time"

const (
	// patience is how long a session waits for BFD alone to come back; then it
	// is tried without. A router that takes its neighbours as they dial watches
	// none before, so that BFD would never come back.
	patience = 3 * time.Second
	// dampMin and dampMax bound how long a session waits after BFD came up
	// again: the first time in a while not at all, then longer each time.
	dampMin = time.Second
	dampMax = time.Minute
	// calmTime without a failure forgives the earlier ones.
	calmTime = 2 * time.Minute
)

// Hold decides when a session is held down for BFD's sake. A session that BFD
// never saw up is not held (RFC 5882, section 4.2), nor one whose peer switched
// BFD off on purpose (section 3.2): both is in what counts as failed, see
// observed.BFDSession. The zero value holds nothing.
type Hold struct {
	failed bool
	// last is when the peer failed the last time; after is how long to wait
	// after it is back.
	last  time.Time
	after time.Duration
	// until is when the wait ends: after a failure, with or without BFD.
	until time.Time
}

// Step takes the news and tells whether the session is held now, and when to ask
// again, if nothing else changes.
func (h *Hold) Step(now time.Time, failed bool) (held bool, again time.Time) {
	switch {
	case failed && !h.failed:
		if !h.last.IsZero() && now.Sub(h.last) < calmTime+h.after {
			h.after = min(max(2*h.after, dampMin), dampMax)
		} else {
			h.after = 0
		}
		h.last, h.until = now, now.Add(patience+h.after)
	case !failed && h.failed && now.Before(h.until):
		h.until = now.Add(h.after)
	}
	h.failed = failed
	if now.Before(h.until) {
		return true, h.until
	}
	return false, time.Time{}
}
