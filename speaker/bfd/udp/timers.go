package udp

import (
	"container/heap"
	"time"
)

// timers is a heap of sessions by when they want to be stepped.
type timers []*session

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].next.Before(t[j].next) }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].pos, t[j].pos = i, j
}

// Push implements heap.Interface.
func (t *timers) Push(x any) {
	s := x.(*session)
	s.pos = len(*t)
	*t = append(*t, s)
}

// Pop implements heap.Interface.
func (t *timers) Pop() any {
	old := *t
	s := old[len(old)-1]
	old[len(old)-1] = nil
	*t = old[:len(old)-1]
	s.pos = -1
	return s
}

// set moves a session to another time; zero takes it out.
func (t *timers) set(s *session, next time.Time) {
	switch {
	case next.IsZero():
		if s.pos >= 0 {
			heap.Remove(t, s.pos)
		}
		s.next = next
	case s.pos < 0:
		s.next = next
		heap.Push(t, s)
	case !next.Equal(s.next):
		s.next = next
		heap.Fix(t, s.pos)
	}
}

// first is the earliest time, zero if there is none.
func (t timers) first() time.Time {
	if len(t) == 0 {
		return time.Time{}
	}
	return t[0].next
}
