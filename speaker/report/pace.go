package report

import "time"

// pace spaces the writes to one object: some at once, and the others apart. The
// zero value has seen none.
type pace struct {
	// full is when the next writes may again come at once.
	full time.Time
}

const (
	// A session that comes up changes its state a few times within a second.
	paceBurst = 4
	// One that flaps is told at this interval, with the events as well.
	paceApart = 2 * time.Second
)

// next is when the next write may be, at the earliest.
func (p *pace) next() time.Time { return p.full.Add(-(paceBurst - 1) * paceApart) }

// take counts a write.
func (p *pace) take(now time.Time) {
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(paceApart)
}
