package plan

import (
	"bytes"
	"crypto/sha256"
	"net/netip"
	"runtime"
	"sync"
)

// An Election is the outcome of electing one node for one address. The zero
// value is the outcome of an election that nobody stood for.
type Election struct {
	address    netip.Addr
	candidates []string
	winner     string
	digest     digest
}

type digest [sha256.Size]byte

// Winner is the elected node, "" if there was no candidate.
func (e *Election) Winner() string { return e.winner }

// Address is what the election was held for.
func (e *Election) Address() netip.Addr { return e.address }

// elect returns the candidate whose SHA-256 of "node#address" is smallest.
// Candidates are in name order. The result does not depend on last, which may
// be any earlier election: if it was for the same address and its winner
// still stands, only the candidates that are new need to be hashed.
func elect(h *hasher, address netip.Addr, candidates []string, last Election) Election {
	if last.address != address || last.winner == "" {
		return electAmong(h, address, candidates)
	}
	if same(last.candidates, candidates) {
		return last
	}
	next := last
	next.candidates = candidates
	h.reset(address)
	i, stands := 0, false
	for _, c := range candidates {
		for i < len(last.candidates) && last.candidates[i] < c {
			i++
		}
		if i < len(last.candidates) && last.candidates[i] == c {
			stands = stands || c == last.winner
			i++
			continue
		}
		if d := h.sum(c); bytes.Compare(d, next.digest[:]) < 0 {
			next.winner, next.digest = c, digest(d)
		}
	}
	if !stands {
		return electAmong(h, address, candidates)
	}
	return next
}

func electAmong(h *hasher, address netip.Addr, candidates []string) Election {
	e := Election{address: address, candidates: candidates}
	h.reset(address)
	for i, c := range candidates {
		if d := h.sum(c); i == 0 || bytes.Compare(d, e.digest[:]) < 0 {
			e.winner, e.digest = c, digest(d)
		}
	}
	return e
}

// same tells whether two slices are the same slice, not merely equal ones.
func same(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// parallelFrom is the number of hashes from which a second goroutine pays.
const parallelFrom = 2048

// Elect holds the elections of many ballots: elections[i], the last one of
// ballots[i] or the zero value, becomes the present one.
func Elect(ballots []Ballot, elections []Election) {
	work := 0
	for i := range ballots {
		work += len(ballots[i].candidates)
	}
	hold := func(from, to int) {
		h := newHasher()
		for i := from; i < to; i++ {
			elections[i] = elect(h, ballots[i].address, ballots[i].candidates, elections[i])
		}
	}
	workers := min(runtime.GOMAXPROCS(0), len(ballots))
	if work < parallelFrom || workers < 2 {
		hold(0, len(ballots))
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { hold(w*len(ballots)/workers, (w+1)*len(ballots)/workers) })
	}
	wg.Wait()
}
