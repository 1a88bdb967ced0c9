package membership

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// gossip is the Ring as memberlist calls it. The calls must not block, and must
// not call memberlist back: some come with its locks held.
type gossip struct{ r *Ring }

var (
	_ memberlist.Delegate      = gossip{}
	_ memberlist.EventDelegate = gossip{}
)

// NodeMeta returns what the others must know at once.
func (g gossip) NodeMeta(int) []byte {
	g.r.mu.Lock()
	defer g.r.mu.Unlock()
	return appendMeta(nil, meta{Version: g.r.self.Version, Phase: g.r.self.Phase, Keys: g.r.keys})
}

// NotifyMsg takes a state that arrived by gossip or directly.
func (g gossip) NotifyMsg(b []byte) { g.r.merge(b) }

// GetBroadcasts returns own news to send along.
func (g gossip) GetBroadcasts(overhead, limit int) [][]byte {
	return g.r.queue.GetBroadcasts(overhead, limit)
}

// LocalState returns the states of all members, for a full exchange.
func (g gossip) LocalState(bool) []byte {
	r := g.r
	r.mu.Lock()
	defer r.mu.Unlock()
	states := r.own()
	for node, s := range r.states {
		if _, ok := r.members[node]; ok {
			states = append(states, s)
		}
	}
	slices.SortFunc(states, func(a, b state) int { return strings.Compare(a.Node, b.Node) })
	return appendMessage(nil, states...)
}

// MergeRemoteState takes the states of a full exchange.
func (g gossip) MergeRemoteState(b []byte, _ bool) { g.r.merge(b) }

// NotifyJoin and the next two keep the list of members. They are called with
// memberlist's lock held, which is the one moment when n may be read safely.
func (g gossip) NotifyJoin(n *memberlist.Node) {
	g.r.log.Info("speaker joined", "node", n.Name)
	g.r.setMember(n)
}

// NotifyUpdate is called when a member's metadata changed.
func (g gossip) NotifyUpdate(n *memberlist.Node) { g.r.setMember(n) }

// NotifyLeave is called when a member left or is declared dead.
func (g gossip) NotifyLeave(n *memberlist.Node) {
	r := g.r
	r.log.Info("speaker left", "node", n.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.members, n.Name)
	r.noteAlive()
	r.refresh(time.Now())
	signal(r.joinNow)
}

func (r *Ring) setMember(n *memberlist.Node) {
	addr, ok := netip.AddrFromSlice(n.Addr)
	if !ok {
		return
	}
	// Metadata that cannot be read is that of a speaker of another kind: alive,
	// in the starting phase, and nothing known of it.
	m, _ := decodeMeta(n.Meta)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.members[n.Name] = member{addr: netip.AddrPortFrom(addr.Unmap(), n.Port), meta: m, behind: r.members[n.Name].behind}
	if n.Name != r.cfg.Node {
		delete(r.facts.foreign, n.Name)
		if r.facts.joinedAt.IsZero() {
			r.facts.joinedAt = now
		}
	}
	r.noteAlive()
	r.refresh(now)
	signal(r.wake)
}

// noteAlive copies the members' names into the facts. mu is held.
func (r *Ring) noteAlive() {
	r.facts.alive = r.facts.alive[:0]
	for name := range r.members {
		if name != r.cfg.Node {
			r.facts.alive = append(r.facts.alive, name)
		}
	}
}

// merge takes every state in b that is newer than what is known.
func (r *Ring) merge(b []byte) {
	states, err := decodeMessage(b)
	if err != nil {
		r.metrics.malformed.Inc()
		r.log.Debug("a gossip message could not be read", "err", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range states {
		if s.Node == r.cfg.Node {
			r.outdo(s.Version)
			continue
		}
		known, ok := r.states[s.Node]
		if !ok && len(r.states) >= maxStates || ok && !s.Version.newer(known.Version) {
			continue
		}
		r.states[s.Node] = s
	}
	r.refresh(time.Now())
}

// outdo makes the own state newer than v, a version of it that is about. This
// happens when the clock went back over a restart. mu is held.
func (r *Ring) outdo(v version) {
	if v.newer(r.self.Version) && v.Epoch+1 != 0 {
		r.self.Version.Epoch = v.Epoch + 1
		signal(r.dirty)
	}
}

// news is the own state on its way by gossip. The newest replaces the others.
type news []byte

var _ memberlist.NamedBroadcast = news{}

func (n news) Invalidates(memberlist.Broadcast) bool { return true }
func (n news) Name() string                          { return "self" }
func (n news) Message() []byte                       { return n }
func (n news) Finished()                             {}
