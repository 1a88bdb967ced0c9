package membership

import (
	"strings"
	"testing"
	"time"
)

func TestSettle(t *testing.T) {
	tm := timing{grace: 10 * time.Second, gather: 250 * time.Millisecond, evidence: 45 * time.Second}
	t0 := time.Unix(1000, 0)
	at := func(d time.Duration) time.Time { return t0.Add(d) }
	foreign := func(nodes ...string) map[string]time.Time {
		m := map[string]time.Time{}
		for _, n := range nodes {
			m[n] = t0
		}
		return m
	}
	for _, tt := range []struct {
		name    string
		facts   facts
		now     time.Duration
		want    bool
		waiting string
		again   time.Duration // 0: only news help
	}{
		{"no key, however long it takes", facts{keyErr: "the gossip secret is missing or empty"}, time.Hour, false, "is missing or empty", 0},
		{"no key, though the list says that it is alone", facts{keyErr: "no key", listedAt: t0}, time.Hour, false, "no key", 0},
		{"peers never listed", facts{keyed: true}, time.Hour, false, "have not been listed", 0},
		{"the API is away", facts{keyed: true, listErr: "connection refused"}, time.Hour, false, "connection refused", 0},
		{"alone in the cluster", facts{keyed: true, listedAt: t0}, 0, true, "", 0},
		{"nobody reached yet", facts{keyed: true, listedAt: t0, listed: []string{"a", "b"}}, time.Second, false, "None of 2 other speakers", 10 * time.Second},
		{"nobody reached within the grace: it serves alone", facts{keyed: true, listedAt: t0, listed: []string{"a"}}, 10 * time.Second, true, "", 0},
		{"joined, others may follow", facts{keyed: true, listedAt: t0, listed: []string{"a", "b"}, alive: []string{"a"}, joinedAt: t0}, 100 * time.Millisecond, false, "a moment ago", 250 * time.Millisecond},
		{"joined all: no reason to wait", facts{keyed: true, listedAt: t0, listed: []string{"a", "b"}, alive: []string{"a", "b"}, joinedAt: t0}, 0, true, "", 0},
		{"joined and one is dead", facts{keyed: true, listedAt: t0, listed: []string{"a", "dead"}, alive: []string{"a"}, joinedAt: t0}, 250 * time.Millisecond, true, "", 0},
		{"joined, and left alone again", facts{keyed: true, listedAt: t0, listed: []string{"a"}, joinedAt: t0}, time.Second, true, "", 0},
		{"wrong key against a ring of two, even after the grace", facts{keyed: true, listedAt: t0, listed: []string{"a", "b"}, foreign: foreign("a", "b")}, 20 * time.Second, false, "another gossip key (a, b)", 65 * time.Second},
		{"right key: two against one", facts{keyed: true, listedAt: t0, listed: []string{"a", "x"}, alive: []string{"a"}, joinedAt: t0, foreign: foreign("x")}, time.Second, true, "", 0},
		{"right key, the third may be coming", facts{keyed: true, listedAt: t0, listed: []string{"a", "x"}, alive: []string{"a"}, joinedAt: t0, foreign: foreign("x")}, 100 * time.Millisecond, false, "another gossip key (x)", 250 * time.Millisecond},
		{"one against one: the first name serves", facts{keyed: true, listedAt: t0, listed: []string{"z"}, foreign: foreign("z")}, 10 * time.Second, true, "", 0},
		{"one against one: the second name waits", facts{keyed: true, listedAt: t0, listed: []string{"a"}, foreign: foreign("a")}, 10 * time.Second, false, "another gossip key", 55 * time.Second},
		{"two against two: the side of the first name serves", facts{keyed: true, listedAt: t0, listed: []string{"a", "x", "y"}, alive: []string{"a"}, joinedAt: t0, foreign: foreign("x", "y")}, time.Second, true, "", 0},
		{"three keys for three nodes: nobody has the most", facts{keyed: true, listedAt: t0, listed: []string{"n", "o"}, foreign: foreign("n", "o")}, time.Minute / 2, false, "another gossip key", 75 * time.Second},
		{"the other key's only speaker serves: three that start wait", facts{keyed: true, listedAt: t0, listed: []string{"a", "b", "x"}, serving: []string{"x"}, alive: []string{"a", "b"}, joinedAt: t0, foreign: foreign("x")}, 20 * time.Second, false, "A speaker that serves answers under another gossip key (x)", 65 * time.Second},
		{"the first name of equal sides waits for one that serves", facts{keyed: true, listedAt: t0, listed: []string{"z"}, serving: []string{"z"}, foreign: foreign("z")}, 10 * time.Second, false, "that serves answers under another gossip key (z)", 55 * time.Second},
		{"its own side serves: it follows, though the others that start are more", facts{keyed: true, listedAt: t0, listed: []string{"a", "x", "y", "z"}, serving: []string{"a"}, alive: []string{"a"}, joinedAt: t0, foreign: foreign("x", "y", "z")}, time.Second, true, "", 0},
		{"its own side serves, and others may follow", facts{keyed: true, listedAt: t0, listed: []string{"a", "x", "y", "z"}, serving: []string{"a"}, alive: []string{"a"}, joinedAt: t0, foreign: foreign("x", "y", "z")}, 100 * time.Millisecond, false, "another gossip key", 250 * time.Millisecond},
		{"both sides serve: who starts joins neither", facts{keyed: true, listedAt: t0, listed: []string{"a", "b", "x"}, serving: []string{"a", "b", "x"}, alive: []string{"a", "b"}, joinedAt: t0, foreign: foreign("x")}, 20 * time.Second, false, "(x)", 65 * time.Second},
		{"one that serves and does not answer under another key is dead or on its way", facts{keyed: true, listedAt: t0, listed: []string{"a", "x"}, serving: []string{"a", "x"}, alive: []string{"a"}, joinedAt: t0}, time.Second, true, "", 0},
		{"what served has not been heard of for long", facts{keyed: true, listedAt: t0, listed: []string{"a"}, serving: []string{"a"}, foreign: foreign("a")}, 45 * time.Second, true, "", 0},
		{"the other key has not been heard of for long", facts{keyed: true, listedAt: t0, listed: []string{"a"}, foreign: foreign("a")}, 45 * time.Second, true, "", 0},
		{"a foreign key of a node that the cluster does not list counts for nothing", facts{keyed: true, listedAt: t0, foreign: foreign("stranger")}, 0, true, "", 0},
		{"a foreign key of a node that has joined since", facts{keyed: true, listedAt: t0, listed: []string{"a"}, alive: []string{"a"}, joinedAt: t0, foreign: foreign("a")}, 0, true, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, waiting, again := tt.facts.settle("m", at(tt.now), tm)
			if got != tt.want {
				t.Errorf("settled %v, want %v", got, tt.want)
			}
			if got != (waiting == "") || !strings.Contains(waiting, tt.waiting) {
				t.Errorf("waiting %q, want %q in it", waiting, tt.waiting)
			}
			want := time.Time{}
			if tt.again > 0 {
				want = at(tt.again)
			}
			if !again.Equal(want) {
				t.Errorf("again at %v, want %v", again.Sub(t0), tt.again)
			}
		})
	}
}

// Whatever the sides, and whoever serves already, no two sides serve: if nobody
// did, exactly one side settles; if one did, it stays the only one; and where
// two already serve, no third does.
func TestAtMostOneSideOfASplitSettles(t *testing.T) {
	tm := timing{grace: time.Second, gather: time.Second, evidence: time.Hour}
	t0 := time.Unix(1000, 0)
	nodes := []string{"a", "b", "c", "d", "e"}
	has := func(set, i int) bool { return set>>i&1 == 1 }
	// side is a word of the node's two key bits: up to three sides.
	for sides := range 1 << (2 * len(nodes)) {
		side := func(i int) int { return min(sides>>(2*i)&3, 2) }
		for serving := range 1 << len(nodes) {
			serve, start, settled := map[int]bool{}, map[int]bool{}, map[int]bool{}
			for i := range nodes {
				if has(serving, i) {
					serve[side(i)] = true
				}
			}
			for i, self := range nodes {
				if has(serving, i) {
					continue // it settled before
				}
				start[side(i)] = true
				if f := factsOf(nodes, i, side, func(j int) bool { return has(serving, j) }, t0); settles(f, self, t0, tm) {
					settled[side(i)] = true
				}
			}
			switch len(serve) {
			case 0:
				if len(settled) > 1 {
					t.Fatalf("sides %010b: %d sides settled, want at most 1", sides, len(settled))
				}
				if keys := sidesOf(nodes, side); keys <= 2 && len(settled) != 1 {
					t.Fatalf("sides %010b: no side settled, want 1 of %d", sides, keys)
				}
			case 1:
				for s := range start {
					if settled[s] != serve[s] {
						t.Fatalf("sides %010b, serving %05b: side %d settled: %v, want only who starts on the side that serves", sides, serving, s, settled[s])
					}
				}
			default:
				if len(settled) > 0 {
					t.Fatalf("sides %010b, serving %05b: somebody settled beside two sides that serve", sides, serving)
				}
			}
		}
	}
}

// factsOf is what node i knows when it has heard of all others.
func factsOf(nodes []string, i int, side func(int) int, serves func(int) bool, t0 time.Time) facts {
	f := facts{keyed: true, listedAt: t0, foreign: map[string]time.Time{}}
	for j, n := range nodes {
		if i == j {
			continue
		}
		f.listed = append(f.listed, n)
		if serves(j) {
			f.serving = append(f.serving, n)
		}
		if side(i) == side(j) {
			f.alive, f.joinedAt = append(f.alive, n), t0
		} else {
			f.foreign[n] = t0
		}
	}
	return f
}

func settles(f facts, self string, t0 time.Time, tm timing) bool {
	ok, _, _ := f.settle(self, t0.Add(time.Minute), tm)
	return ok
}

func sidesOf(nodes []string, side func(int) int) int {
	keys := map[int]bool{}
	for i := range nodes {
		keys[side(i)] = true
	}
	return len(keys)
}
