package main

import (
	"context"
	"os"
	"runtime"
	"slices"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
	"github.com/heraldlb/herald/speaker/observed"
	"github.com/heraldlb/herald/speaker/plan"
)

// bgpRoom is the BGP room. None of its methods blocks, but for Shutdown.
type bgpRoom interface {
	// Apply changes what the peers are told. All paths are there before the
	// first session: that makes a graceful restart hitless.
	Apply(desired.BGPChange)
	// SetSessions takes all sessions, and why others cannot be.
	SetSessions([]desired.Session, []desired.Refusal)
	// SetBFD takes what is known of the peers' forwarding.
	SetBFD(observed.BFD)
	Observed() observed.BGP
	// Shutdown ends the sessions. The routes survive it at peers that can keep
	// them if the speaker comes back; from all others they are withdrawn, after
	// the peers had time to turn to another node.
	Shutdown(ctx context.Context, comesBack bool)
}

// bfdRoom is the BFD room. None of its methods blocks.
type bfdRoom interface {
	Set(desired.BFD)
	Observed() observed.BFD
}

// takeSessions asks the plan for the sessions of this node, if what they depend
// on has changed, and passes on what became of them. BGP does not wait for the
// ring: a node that advertises takes nothing from another.
func (l *loop) takeSessions(ctx context.Context, n notes) error {
	if l.snapshot == nil {
		return nil
	}
	if l.keys == nil || n.secrets {
		keys, err := l.store.Secrets(ctx)
		if err != nil {
			return err
		}
		l.keys = keys
	}
	_, moved := n.nodes[l.node]
	if !l.opened || n.secrets || n.config || moved {
		l.opened = true
		l.sessions, l.refused = plan.Sessions(l.snapshot, plan.Site{
			Node: l.node, Labels: l.self.Labels, Addresses: l.self.Addresses, Secrets: l.keys,
		})
		l.bgp.SetSessions(l.sessions, l.refused)
		n.sessions = true
	}
	if !n.sessions && n.links == nil {
		return nil
	}
	reached := l.bgp.Observed()
	want, without := plan.BFDSessions(l.sessions, reached, l.links, l.keys)
	if len(want) > 0 {
		stayAwake()
	}
	l.bfd.Set(want)
	l.tellProblems(append(without, l.refused...))
	alive := l.bfd.Observed()
	l.bgp.SetBFD(alive)
	l.report.SessionsChanged(reached, alive)
	return nil
}

// tellProblems reports what is wrong with the configuration: what the objects
// themselves show, and what the Secrets that they name lack.
func (l *loop) tellProblems(sessions []desired.Refusal) {
	problems := append([]config.Problem{}, l.problems...)
	for _, r := range sessions {
		p := config.Problem{Kind: "BGPPeer", Namespace: l.namespace, Name: r.Peer, Severity: config.Error, Message: r.Message}
		if r.Reason == reason.BFDProfilesDiffer {
			p.Severity = config.Warning
		}
		problems = append(problems, p)
	}
	if l.told != nil && slices.Equal(problems, l.told) {
		return
	}
	l.told = problems
	l.report.SetProblems(problems)
}

// watchful is how many threads run Go code where BFD is in use. With one for each
// of few processors, a packet that is due waits for the garbage collector.
const watchful = 8

// stayAwake lets more goroutines run at once than there are processors, unless
// the environment says how many. It is harmless to repeat.
func stayAwake() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < watchful {
		runtime.GOMAXPROCS(max(watchful, 2*runtime.NumCPU()))
	}
}
