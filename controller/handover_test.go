package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/internal/service"
)

// Every run of a fake cluster fails when a write doubles an address: see
// compareWithOthers. These tests provoke it.

func refusing(names ...string) func(service.Key) error {
	return func(key service.Key) error {
		for _, name := range names {
			if key.Name == name {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, key.Name, errors.New("a policy"))
			}
		}
		return nil
	}
}

func TestAddressIsClearedBeforeItsNextHolderIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.1-10.0.0.3")
		l := begin(t, f)
		f.put("old", wants("10.0.0.1"))
		rest(time.Second)
		f.put("heir", wants("10.0.0.1"))
		rest(time.Second)
		f.put("old", wants("10.0.0.2"))
		rest(time.Second)
		expect(t, f, map[string]string{"old": "10.0.0.2", "heir": "10.0.0.1"})
		judge(t, f, l)
	})
}

// Two Services that ask for each other's address are both cleared first.
func TestSwap(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refuse func() func(service.Key) error
	}{
		{"all writes succeed", func() func(service.Key) error { return nil }},
		{"every other write conflicts", func() func(service.Key) error {
			n := 0
			return func(key service.Key) error {
				if n++; n%2 == 0 {
					return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, key.Name, errors.New("changed"))
				}
				return nil
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCluster()
				f.putPool("main", "10.0.0.0/30")
				l := begin(t, f)
				f.put("a", wants("10.0.0.1"))
				f.put("b", wants("10.0.0.2"))
				rest(time.Second)
				f.setRefuse(tt.refuse())
				f.put("a", wants("10.0.0.2"))
				f.put("b", wants("10.0.0.1"))
				rest(time.Minute)
				expect(t, f, map[string]string{"a": "10.0.0.2", "b": "10.0.0.1"})
				judge(t, f, l)
			})
		})
	}
}

// A whole ring of Services moves on by one while the pools change under them.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		l := begin(t, f)
		const ring = 40
		for round := range 4 {
			for i := range ring {
				f.put(fmt.Sprint("web-", i), wants(fmt.Sprint("10.0.0.", (i+round)%ring)))
			}
			rest(time.Minute)
			expect(t, f, map[string]string{"web-0": fmt.Sprint("10.0.0.", round), "web-39": fmt.Sprint("10.0.0.", (39+round)%ring)})
		}
		judge(t, f, l)
	})
}

// The API refuses to clear the loser for ever: the heir waits, says so once,
// and is served when the loser is gone.
func TestHeirWaitsForLoserThatCannotBeCleared(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(f *fakeCluster)
	}{
		{"until it is deleted", func(f *fakeCluster) { f.remove("old") }},
		{"until it is no longer served", func(f *fakeCluster) { f.put("old", ofType("ClusterIP")) }},
		{"until it may be written", func(f *fakeCluster) { f.setRefuse(nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeCluster()
				f.putPool("main", "10.0.0.1-10.0.0.2")
				var lines bytes.Buffer
				beginLogging(t, f, slog.New(slog.NewTextHandler(&lines, nil)))
				f.put("old", wants("10.0.0.1"))
				rest(time.Second)
				f.put("heir", wants("10.0.0.1"))
				rest(time.Second)
				f.setRefuse(refusing("old"))
				f.put("old", wants("10.0.0.2"))
				rest(10 * time.Minute)
				expect(t, f, map[string]string{"old": "10.0.0.1", "heir": ""})
				if n := strings.Count(lines.String(), "former=apps/old"); n != 1 {
					t.Errorf("said %d times that the heir waits, want once:\n%s", n, lines.String())
				}
				tt.end(f)
				rest(time.Minute)
				expect(t, f, map[string]string{"heir": "10.0.0.1"})
			})
		})
	}
}

// A write whose answer got lost may have published an address that was then
// taken away again: its next holder waits until that is known.
func TestLostAnswerIsNotTakenForARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.1-10.0.0.2")
		l := begin(t, f)
		f.put("next", wants("10.0.0.9"))
		rest(time.Second)
		f.setLag(3 * time.Second)
		lost := 1
		f.lose = func(key service.Key) error {
			if key.Name == "first" && lost > 0 {
				lost--
				return errors.New("connection reset")
			}
			return nil
		}
		f.put("first", wants("10.0.0.1"))
		rest(3100 * time.Millisecond)
		expect(t, f, map[string]string{"first": "10.0.0.1"})
		// The loop has not heard of that yet. The owner deletes the request.
		f.put("first", wants("10.0.0.2"))
		f.put("next", wants("10.0.0.1"))
		rest(time.Minute)
		expect(t, f, map[string]string{"first": "10.0.0.2", "next": "10.0.0.1"})
		judge(t, f, l)
	})
}

// A write that never reached the API server, by an error that does not say so,
// holds nobody up for ever.
func TestWriteOfUnknownEndIsLookedInto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.1/32")
		begin(t, f)
		f.put("first", wants("10.0.0.1"))
		f.setRefuse(func(key service.Key) error {
			if key.Name == "first" {
				return errors.New("connection reset")
			}
			return nil
		})
		rest(time.Second)
		// The pool moves on before the write succeeded.
		f.putPool("main", "10.0.0.2/32")
		rest(time.Second)
		f.putPool("more", "10.0.0.1/32")
		f.put("first", wants("10.0.0.2"))
		f.put("next", wants("10.0.0.1"))
		rest(time.Second)
		f.setRefuse(nil)
		rest(time.Minute)
		expect(t, f, map[string]string{"first": "10.0.0.2", "next": "10.0.0.1"})
	})
}
