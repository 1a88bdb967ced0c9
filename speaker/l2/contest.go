package l2

import (
	"fmt"
	"sync"
	"time"
)

const (
	// foreignQuiet is the least time, in seconds, between two log lines about
	// another station that announces the same address.
	foreignQuiet = 30
	// foreignLines is how many such lines there are, about all addresses
	// together, within that time: when two nodes believe that they own the same
	// thousand addresses, a thousand lines say no more than ten.
	foreignLines = 10
)

// A contest notes on which interfaces another station announced an address
// since we last did. It keeps a flood of such frames from the loop: between two
// frames of ours, the first one is news and the others change nothing.
type contest struct {
	mu    sync.Mutex
	heard map[int]bool
}

// hear returns true if that is news.
func (c *contest) hear(index int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heard[index] {
		return false
	}
	if c.heard == nil {
		c.heard = make(map[int]bool)
	}
	c.heard[index] = true
	return true
}

// forget notes that we announce the address.
func (c *contest) forget(index int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.heard, index)
}

// A quota bounds how often something is said.
type quota struct {
	mu     sync.Mutex
	since  int64 // when the present period began, in seconds
	said   int
	unsaid uint64
}

// take tells whether there is room for one more line at a time in seconds, and
// how many were left out since the last one.
func (q *quota) take(now int64) (ok bool, unsaid uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now-q.since >= foreignQuiet {
		q.since, q.said = now, 0
	}
	if q.said == foreignLines {
		q.unsaid++
		return false, 0
	}
	q.said++
	unsaid, q.unsaid = q.unsaid, 0
	return true, unsaid
}

// heardForeign counts that another station announces an address of ours, and
// hands it to the loop, which may have to tell the neighbours again.
func (a *Announcer) heardForeign(e *entry, index int, frame []byte) {
	e.tally.foreign.Add(1)
	if e.tally.contest.hear(index) {
		a.mu.Lock()
		a.contested[target{e.addr, index}] = struct{}{}
		a.mu.Unlock()
		a.notify()
	}
	now, last := time.Now().Unix(), e.tally.foreignLogged.Load()
	if now-last < foreignQuiet || !e.tally.foreignLogged.CompareAndSwap(last, now) {
		return
	}
	ok, unsaid := a.foreignQuota.take(now)
	if !ok {
		return
	}
	from := hwAddr(frame[ethSource:])
	a.log.Warn("another station announces our address", "ip", e.addr,
		"interface", a.portName(index), "mac", fmt.Sprintf("%x", from), "unsaid", unsaid)
}

// defend has the contested addresses announced again that are still announced
// from the interface where the other station was heard.
func (l *loop) defend(now time.Time, contested map[target]struct{}) {
	for t := range contested {
		for _, p := range l.known[t.addr].at {
			if p.index == t.index {
				l.burst.Defend(now, t)
			}
		}
	}
}
