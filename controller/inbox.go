package main

import (
	"sync"

	"github.com/heraldlb/herald/internal/service"
)

// inbox gathers what the watches saw until the loop takes it. Notes about one
// thing are one note, so a storm costs no more than its subjects.
type inbox struct {
	wake chan struct{}

	mu    sync.Mutex // guards what follows
	open  bool
	notes notes
}

// notes are what changed since the loop looked last. They say where to look,
// not what is there.
type notes struct {
	// services and namespaces in the order in which they were seen.
	services   []service.Key
	namespaces []string
	// gone is at which version a Service was deleted last, "" if that is not known.
	gone map[service.Key]string
	// config is true when the configuration may have changed, reports when
	// somebody wrote to the status of a pool or to the ConfigurationState.
	config, reports bool

	seenServices   map[service.Key]struct{}
	seenNamespaces map[string]struct{}
}

func newInbox() *inbox {
	b := &inbox{wake: make(chan struct{}, 1)}
	b.notes.reset()
	return b
}

func (n *notes) reset() {
	*n = notes{gone: map[service.Key]string{}, seenServices: map[service.Key]struct{}{}, seenNamespaces: map[string]struct{}{}}
}

// start opens the inbox. Before that notes are dropped: who starts to work
// looks at everything anyway, and a replica that stands by gathers nothing.
func (b *inbox) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
}

func (b *inbox) service(key service.Key) {
	b.put(func(n *notes) { n.service(key) })
}

func (b *inbox) deletedService(key service.Key, version string) {
	b.put(func(n *notes) {
		n.service(key)
		n.gone[key] = version
	})
}

func (n *notes) service(key service.Key) {
	if _, seen := n.seenServices[key]; !seen {
		n.seenServices[key] = struct{}{}
		n.services = append(n.services, key)
	}
}

func (b *inbox) namespace(name string) {
	b.put(func(n *notes) {
		if _, seen := n.seenNamespaces[name]; !seen {
			n.seenNamespaces[name] = struct{}{}
			n.namespaces = append(n.namespaces, name)
		}
	})
}

func (b *inbox) config()  { b.put(func(n *notes) { n.config = true }) }
func (b *inbox) reports() { b.put(func(n *notes) { n.reports = true }) }

func (b *inbox) put(write func(*notes)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return
	}
	write(&b.notes)
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take hands over the notes.
func (b *inbox) take() notes {
	b.mu.Lock()
	defer b.mu.Unlock()
	taken := b.notes
	b.notes.reset()
	return taken
}
