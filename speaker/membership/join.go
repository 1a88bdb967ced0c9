package membership

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	listEvery   = 30 * time.Second
	firstRetry  = 250 * time.Millisecond
	lastRetry   = 15 * time.Second
	behindAfter = time.Second
	// One answer brings the whole ring, so a round calls a few.
	callsPerRound = 8
)

// foreignKey is how memberlist says that a message is under a key that is not
// on the ring. It exports no error for this; a test holds it to these words.
const foreignKey = "no installed keys could decrypt the message"

// callee is a speaker to exchange everything with.
type callee struct {
	node string
	addr netip.AddrPort
}

// join brings the speakers that the cluster knows of into the ring, at the
// start and whenever one is missing, and fetches the states that did not
// arrive.
func (r *Ring) join(ctx context.Context, list *memberlist.Memberlist) {
	var peers []Peer
	var listed time.Time
	var before []string
	for tries := 0; ; {
		now := time.Now()
		if r.takeStale() || now.Sub(listed) >= listEvery || slices.ContainsFunc(peers, homeless) {
			if got, ok := r.listPeers(ctx); ok {
				peers, listed = got, now
			}
		}
		missing, callees := r.missing(peers)
		if slices.ContainsFunc(missing, func(n string) bool { return !slices.Contains(before, n) }) {
			tries = 0 // somebody new is missing
		}
		before = missing
		r.call(list, append(callees, r.behind(now)...))

		wait := max(time.Until(listed.Add(listEvery)), 0)
		if still, _ := r.missing(peers); len(still) > 0 || listed.IsZero() {
			wait = backoff(tries)
			tries++
		} else {
			tries = 0
		}
		t := time.NewTimer(min(wait, r.nextBehind()))
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-r.joinNow:
		case <-t.C:
		}
		t.Stop()
	}
}

// homeless is true for a peer that has no address yet.
func homeless(p Peer) bool { return !p.Addr.IsValid() }

// backoff doubles from firstRetry to lastRetry, give or take a third, so that
// many nodes do not call in step.
func backoff(tries int) time.Duration {
	d := lastRetry
	if tries < 6 {
		d = firstRetry << tries
	}
	return d*2/3 + rand.N(d*2/3)
}

// takeStale returns true once after each Refresh.
func (r *Ring) takeStale() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	stale := r.stale
	r.stale = false
	return stale
}

// listPeers asks the caller for the speakers and notes the answer.
func (r *Ring) listPeers(ctx context.Context) ([]Peer, bool) {
	peers, err := r.cfg.Peers(ctx)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		if r.facts.listErr != err.Error() && ctx.Err() == nil {
			r.log.Warn("the speakers cannot be listed", "err", err)
		}
		r.facts.listErr = err.Error()
		r.refresh(now)
		return nil, false
	}
	peers = slices.DeleteFunc(slices.Clone(peers), func(p Peer) bool { return p.Node == r.cfg.Node })
	r.facts.listErr = ""
	if r.facts.listedAt.IsZero() {
		r.facts.listedAt = now
	}
	r.facts.listed, r.facts.serving = nil, nil
	for _, p := range peers {
		r.facts.listed = append(r.facts.listed, p.Node)
		if p.Ready {
			r.facts.serving = append(r.facts.serving, p.Node)
		}
	}
	r.refresh(now)
	signal(r.wake)
	return peers, true
}

// missing returns the listed speakers that are not in the ring, in a random
// order but those first that serve, since their key decides whether this side
// may; and those of them that can be called now.
func (r *Ring) missing(peers []Peer) (nodes []string, callees []callee) {
	r.mu.Lock()
	defer r.mu.Unlock()
	peers = slices.Clone(peers)
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	slices.SortStableFunc(peers, func(a, b Peer) int { return rank(a) - rank(b) })
	for _, p := range peers {
		if _, ok := r.members[p.Node]; ok {
			continue
		}
		nodes = append(nodes, p.Node)
		if p.Addr.IsValid() {
			callees = append(callees, callee{p.Node, netip.AddrPortFrom(p.Addr.Unmap().WithZone(""), uint16(r.cfg.Port))})
		}
	}
	return nodes, callees[:min(len(callees), callsPerRound)]
}

// rank orders speakers to call.
func rank(p Peer) int {
	if p.Ready {
		return 0
	}
	return 1
}

// behind returns the members whose state has been missing or old for a while.
func (r *Ring) behind(now time.Time) []callee {
	r.mu.Lock()
	defer r.mu.Unlock()
	var late []callee
	for name, m := range r.members {
		s, ok := r.states[name]
		lacks := name != r.cfg.Node && m.meta.Version.Seq > 0 && (!ok || m.meta.Version.newer(s.Version))
		switch {
		case !lacks:
			m.behind = time.Time{}
		case m.behind.IsZero():
			m.behind = now
		case now.Sub(m.behind) >= behindAfter && len(late) < callsPerRound:
			late = append(late, callee{name, m.addr})
			m.behind = now
		}
		r.members[name] = m
	}
	return late
}

// nextBehind returns when behind should look again.
func (r *Ring) nextBehind() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, m := range r.members {
		if s, ok := r.states[name]; name != r.cfg.Node && (!ok || m.meta.Version.newer(s.Version)) {
			return behindAfter
		}
	}
	return listEvery
}

// call exchanges everything with each callee and notes how it went.
func (r *Ring) call(list *memberlist.Memberlist, callees []callee) {
	var wg sync.WaitGroup
	for _, c := range callees {
		wg.Go(func() {
			_, err := list.Join([]string{c.addr.String()})
			r.noteCall(c, err)
		})
	}
	wg.Wait()
}

func (r *Ring) noteCall(c callee, err error) {
	now := time.Now()
	result := "ok"
	switch {
	case err == nil:
	case strings.Contains(err.Error(), foreignKey):
		result = "foreign_key"
	default:
		result = "unreachable"
	}
	r.metrics.joins.WithLabelValues(result).Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.facts.foreign[c.node]
	if result != "foreign_key" {
		delete(r.facts.foreign, c.node)
	} else {
		r.facts.foreign[c.node] = now
	}
	r.refresh(now)
	signal(r.wake)
	switch {
	case result == "foreign_key" && !known:
		r.log.Error("a speaker answers under another gossip key; give all speakers the same secret", "peer", c.addr.String(), "node", c.node)
	case result == "unreachable":
		r.log.Debug("a speaker could not be called", "peer", c.addr.String(), "node", c.node, "err", err)
	}
}
