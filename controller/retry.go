package main

import (
	"container/heap"
	"time"

	"github.com/heraldlb/herald/internal/service"
)

// A retry is a Service to look at again.
type retry struct {
	at  time.Time
	key service.Key
}

// retries are the Services to look at again, the next one first.
type retries struct{ list retryHeap }

func (r *retries) add(next retry) { heap.Push(&r.list, next) }

func (r *retries) first() (time.Time, bool) {
	if len(r.list) == 0 {
		return time.Time{}, false
	}
	return r.list[0].at, true
}

// take removes and returns a Service that is due.
func (r *retries) take(now time.Time) (service.Key, bool) {
	if at, ok := r.first(); !ok || at.After(now) {
		return service.Key{}, false
	}
	return heap.Pop(&r.list).(retry).key, true
}

// retryHeap implements heap.Interface.
type retryHeap []retry

func (h retryHeap) Len() int           { return len(h) }
func (h retryHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h retryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *retryHeap) Push(x any)        { *h = append(*h, x.(retry)) }
func (h *retryHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
