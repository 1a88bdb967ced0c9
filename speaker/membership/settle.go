package membership

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// facts are what the rule of the package's documentation looks at.
type facts struct {
	keyed  bool
	keyErr string
	// listedAt is when the peers were first listed, zero before.
	listedAt time.Time
	listErr  string
	// listed are the other speakers' nodes by the last list.
	listed []string
	// serving are those of them that serve, as far as the cluster knows.
	serving []string
	// alive are the other nodes of the ring.
	alive []string
	// joinedAt is when the ring first had another member, zero before.
	joinedAt time.Time
	// foreign are the listed nodes that answered under another key, and when.
	foreign map[string]time.Time
}

// timing are the times of the rule.
type timing struct {
	// grace is how long listed peers may stay out of reach.
	grace time.Duration
	// gather is how long the first member is waited on to bring others.
	gather time.Duration
	// evidence is how long an answer under another key is believed.
	evidence time.Duration
}

// settle says whether the ring may be believed, and if not, why: one sentence.
// at is when to ask again, zero if only news can change the answer.
func (f facts) settle(self string, now time.Time, t timing) (ok bool, waiting string, at time.Time) {
	if !f.keyed {
		return false, "The gossip ring is not joined: " + f.keyErr + ".", time.Time{}
	}
	if f.listedAt.IsZero() {
		if f.listErr != "" {
			return false, "The other speakers are not known: " + f.listErr + ".", time.Time{}
		}
		return false, "The other speakers have not been listed yet.", time.Time{}
	}
	if len(f.listed) == 0 && len(f.alive) == 0 {
		return true, "", time.Time{}
	}
	if other := f.believedForeign(now, t); len(other) > 0 {
		return f.settleAgainst(other, self, now, t)
	}
	if !f.joinedAt.IsZero() {
		end := f.joinedAt.Add(t.gather)
		if now.Before(end) && !f.allJoined() {
			return false, "The gossip ring was joined a moment ago.", end
		}
		return true, "", time.Time{}
	}
	if end := f.graceEnd(t); now.Before(end) {
		return false, fmt.Sprintf("None of %d other speakers could be reached yet.", len(f.listed)), end
	}
	return true, "", time.Time{}
}

// settleAgainst is the rule for a ring that is split by keys. Who starts never
// outvotes who serves; between sides that all start, the count decides.
func (f facts) settleAgainst(other []string, self string, now time.Time, t timing) (bool, string, time.Time) {
	serves := func(node string) bool { return slices.Contains(f.serving, node) }
	if i := slices.IndexFunc(other, serves); i >= 0 {
		return false, fmt.Sprintf("A speaker that serves answers under another gossip key (%s); this one waits, however many wait with it. Give all speakers the same secret.",
			other[i]), now.Add(t.evidence)
	}
	ours := slices.Sorted(slices.Values(append(slices.Clone(f.alive), self)))
	win := len(ours) > len(other) || len(ours) == len(other) && ours[0] < other[0]
	if !win && !slices.ContainsFunc(f.alive, serves) {
		return false, fmt.Sprintf("Speakers answer under another gossip key (%s); this side has %d of them and waits. Give all speakers the same secret.",
			strings.Join(other, ", "), len(ours)), now.Add(t.evidence)
	}
	// More of our own side, or of theirs, may just be arriving.
	end := f.graceEnd(t)
	if !f.joinedAt.IsZero() {
		end = f.joinedAt.Add(t.gather)
	}
	if now.Before(end) {
		return false, fmt.Sprintf("Speakers answer under another gossip key (%s).", strings.Join(other, ", ")), end
	}
	return true, "", time.Time{}
}

func (f facts) graceEnd(t timing) time.Time { return f.listedAt.Add(t.grace) }

// believedForeign returns the listed nodes under another key, sorted.
func (f facts) believedForeign(now time.Time, t timing) []string {
	var nodes []string
	for node, seen := range f.foreign {
		if now.Sub(seen) < t.evidence && slices.Contains(f.listed, node) && !slices.Contains(f.alive, node) {
			nodes = append(nodes, node)
		}
	}
	slices.Sort(nodes)
	return nodes
}

func (f facts) allJoined() bool {
	for _, n := range f.listed {
		if !slices.Contains(f.alive, n) {
			return false
		}
	}
	return true
}
