// Package reason is the one catalogue of Herald's reasons.
//
// Every decision not to assign or not to announce carries one of these
// constants. The same word stands in Service conditions, in events, in logs,
// in metric labels, in `kubectl` output and in docs/reasons.md, which is
// generated from this package. A reason is never reused for another meaning
// and never renamed: operators alert on it.
package reason

import "slices"

// A Reason is a CamelCase word that names why something is, or is not, so.
// The zero value means "no reason was given" and is never published.
type Reason string

// An Entry explains one Reason to a person.
type Entry struct {
	Reason Reason
	// Sentence says what the reason means, as one English sentence.
	Sentence string
	// Remedy says what an operator does about it; empty when nothing is wrong.
	Remedy string
}

// All returns every reason, those of the assignment first, in the order of the
// documentation.
func All() []Entry {
	return slices.Concat(assignment, announcement, session, bfd)
}

// Sentence returns what r means, or "" for a reason that is not in the
// catalogue (a programming error that the package's test finds).
func (r Reason) Sentence() string {
	for _, list := range [][]Entry{assignment, announcement, session, bfd} {
		for i := range list {
			if list[i].Reason == r {
				return list[i].Sentence
			}
		}
	}
	return ""
}
