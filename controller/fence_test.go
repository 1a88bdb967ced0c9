package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFence(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := &fence{}
	if _, ok := f.until(start); ok {
		t.Error("a replica that never held the lease may write")
	}
	f.renew(start)
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  bool
	}{
		{"at once", 0, true},
		{"a renewal is late", 6 * time.Second, true},
		{"too late for a write to end in time", 7 * time.Second, false},
		{"somebody else may lead", time.Minute, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			until, ok := f.until(start.Add(tt.after))
			if ok != tt.want || !until.Equal(start.Add(10*time.Second)) {
				t.Errorf("may write %t until %s, want %t", ok, until, tt.want)
			}
		})
	}
}

// A replica that may have lost its lease decides but writes nothing, no status,
// no report; once the lease is its own again it makes up for that.
func TestReplicaThatMayNotLeadWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		begin(t, f)
		f.put("before")
		rest(2 * time.Second)
		f.fenced.Store(true)
		writes := f.count("Services") + f.count("pool main") + f.count("state")
		f.put("during")
		rest(time.Second)
		f.remove("before")
		f.putPool("more", "10.1.0.0/24")
		rest(time.Minute)
		if n := f.count("Services") + f.count("pool main") + f.count("state"); n != writes {
			t.Errorf("%d writes while the replica may not lead", n-writes)
		}
		expect(t, f, map[string]string{"during": ""})
		f.fenced.Store(false)
		rest(2 * time.Second)
		// Decided while "before" still had the first address.
		expect(t, f, map[string]string{"during": "10.0.0.1"})
	})
}

// A write that takes longer than nobody else may lead is given up.
func TestWriteEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster()
		f.putPool("main", "10.0.0.0/24")
		begin(t, f)
		f.leaseLeft.Store(int64(time.Millisecond / 2)) // a write takes one
		f.put("web")
		rest(time.Minute)
		expect(t, f, map[string]string{"web": ""})
		f.leaseLeft.Store(int64(time.Second))
		rest(time.Minute)
		expect(t, f, map[string]string{"web": "10.0.0.0"})
	})
}
