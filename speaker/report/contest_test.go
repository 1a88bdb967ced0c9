package report

import (
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/speaker/desired"
)

// The ring is split, the API server is reached by both sides, and each side
// believes that it announces. Neither floods the API server with its word; and
// when the ring is whole again, the word of the one that is right stands soon.
func TestASplitRingDoesNotFloodTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t)
		key := c.addService("web")
		a, b := c.start(t, "node-a", "ds-1", false), c.start(t, "node-b", "ds-1", false)
		defer func() { a.stop(); b.stop() }()
		synctest.Wait()
		a.Changed([]desired.Decision{owns(key, "node-a")}, nil)
		b.Changed([]desired.Decision{owns(key, "node-b")}, nil)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		before := len(c.writes())
		if before > 300 {
			t.Errorf("%d writes in 5 minutes", before)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if n := len(c.writes()) - before; n > 150 {
			t.Errorf("%d writes in 5 minutes, after 5 minutes of patience", n)
		}

		// node-a was right all along, so only node-b changes its mind.
		b.Changed([]desired.Decision{notOwner(key, "node-a")}, nil)
		a.Reconsider()
		b.Reconsider()
		time.Sleep(2 * contestPause)
		synctest.Wait()
		s, n := c.status(key)
		if n != 1 || s.Node != "node-a" || c.condition(key).Status != metav1.ConditionTrue {
			t.Errorf("the ring is whole: %d objects, of %q, condition %+v", n, s.Node, c.condition(key))
		}
	})
}

// A node that takes a Service back does not lose its new object to one that
// still believes in the old.
func TestOnlyTheObjectThatWasSeenIsDeleted(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	a, b := c.start(t, "node-a", "ds-1", false), c.start(t, "node-b", "ds-1", false)
	a.Changed([]desired.Decision{owns(key, "node-a")}, nil)
	eventually(t, "node-a is told", func() bool { _, n := c.status(key); return n == 1 })
	quiet(t, c, a, b)

	name := statusName(key, "node-a")
	c.mu.Lock()
	fresh := c.statuses[name].DeepCopy()
	fresh.UID, fresh.ResourceVersion = "another", c.next()
	c.statuses[name] = fresh // node-b has not seen it
	c.mu.Unlock()
	if err := b.remove(t.Context(), key, name); err != nil {
		t.Fatal(err)
	}
	if _, n := c.status(key); n != 1 {
		t.Error("the object that took the place of the known one was deleted")
	}
}

// An object that was deleted before its writer heard of the success of its write
// is not remembered as there.
func TestAnObjectThatWasDeletedAtOnceIsNotRemembered(t *testing.T) {
	c := newFake(t)
	key := c.addService("web")
	r := c.start(t, "node-a", "ds-1", false)
	r.Changed([]desired.Decision{owns(key, "node-a")}, nil)
	eventually(t, "told", func() bool { return c.condition(key).Status == metav1.ConditionTrue })
	quiet(t, c, r)

	name := statusName(key, "node-a")
	c.mu.Lock()
	s := c.statuses[name]
	delete(c.statuses, name)
	s = s.DeepCopy()
	s.ResourceVersion = c.next()
	c.mu.Unlock()
	r.statusSeen(s, true)
	written := s.DeepCopy()
	written.ResourceVersion = ""
	r.noteStatus(key, writes{create: written, status: &s.Status, statusName: name}, "1")
	eventually(t, "the object is back", func() bool { _, n := c.status(key); return n == 1 })
}
