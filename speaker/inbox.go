package main

import (
	"sync"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/service"
	"github.com/heraldlb/herald/speaker/link"
	"github.com/heraldlb/herald/speaker/observed"
)

// inbox gathers what the watches saw until the loop takes it. Notes about one
// thing replace each other, so a storm costs no more than its subjects.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex // guards notes
	notes notes
}

// notes are what happened since the loop looked last.
type notes struct {
	// services by name; nil means that it is gone or none of ours.
	services map[service.Key]*corev1.Service
	// slices by name; nil means that it is gone.
	slices map[sliceKey]*slice
	// nodes by name; nil means that it is gone.
	nodes map[string]*observed.Node
	// config is true when a kind of the configuration changed.
	config bool
	// links and exclude are nil unless they changed.
	links   *observed.Links
	exclude *link.Exclude
	// secrets is true when a Secret of the namespace changed.
	secrets bool
	// sessions is true when a BGP or a BFD session changed.
	sessions bool
	// peers is true when the speakers' pods changed.
	peers bool
	// synced is true once the caches have shown all there was at the start.
	// Notes about the API's objects are kept back until then.
	synced bool
}

func newInbox() *inbox {
	return &inbox{wake: make(chan struct{}, 1), notes: newNotes()}
}

func newNotes() notes {
	return notes{
		services: map[service.Key]*corev1.Service{},
		slices:   map[sliceKey]*slice{},
		nodes:    map[string]*observed.Node{},
	}
}

// put writes into the notes and wakes the loop. It never blocks for long.
func (b *inbox) put(write func(*notes)) {
	b.mu.Lock()
	write(&b.notes)
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// sync says that the caches have shown all there was at the start.
func (b *inbox) sync() {
	b.put(func(n *notes) { n.synced = true })
}

// take hands over the notes that the loop can work with.
func (b *inbox) take() notes {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.notes
	b.notes = newNotes()
	b.notes.synced = taken.synced
	if !taken.synced {
		// What the API has is taken in as a whole.
		b.notes.services, taken.services = taken.services, nil
		b.notes.slices, taken.slices = taken.slices, nil
		b.notes.nodes, taken.nodes = taken.nodes, nil
	}
	return taken
}
