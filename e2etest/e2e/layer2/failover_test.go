//go:build lab

package layer2

import (
	"fmt"
	"testing"
	"time"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab/probe"
)

// served is a stage with real pods, on node1 and node2, and an owner that is
// neither of them: what is lost is then the owner, and nothing else.
func served(t *testing.T) (s *stage, owner string) {
	t.Helper()
	const node = "node3"
	s = &stage{Test: harness.New(t)}
	s.pool = s.Pool("p", "addresses: ["+s.Block(0).Range()+"], autoAssign: false")
	s.advertise("a", "preferredNodeSelectors: ["+prefer(100, on(node))+"]")
	s.Echo("web", 2, "node1", "node2")
	s.Service("web", harness.Dual, harness.From(s.pool))
	s.addrs = s.WaitAddresses("web", 2)
	s.announcedBy(node)
	for _, a := range s.addrs {
		s.AnswersOf(a, 2)
	}
	s.WholeAtEnd()
	return s, node
}

// steady checks that for a while one node, and always the same, answers.
func (s *stage) steady(node string) {
	s.Helper()
	s.Always(2*time.Second, func() error {
		for _, a := range s.addrs {
			if got, err := s.Answerer(a, "eth0"); err != nil || got != node {
				return fmt.Errorf("%s is answered for by %q, want %q all the time: %w", a, got, node, err)
			}
		}
		return nil
	})
}

// shortOutages checks what clients noticed. The limit is for a machine that is
// busy with a whole cluster; benchmarks hold the real figures.
func shortOutages(t *testing.T, results []probe.Result, limit time.Duration) {
	t.Helper()
	for _, r := range results {
		if r.Open || r.Longest > limit {
			t.Errorf("%s: the longest outage is %s (over: %t), want at most %s", r.Target, r.Longest, !r.Open, limit)
		}
	}
}

// While nothing happens one node answers for each address, whoever asks.
func TestOneNodeAnswersAllTheTime(t *testing.T) {
	s := stageFor(t, "")
	owner := s.WaitOwner("web")
	s.AnsweredBy(owner, s.addrs...)
	s.steady(owner)
}

// A node that lost its speaker for good hands over, and takes back when it has
// one again.
func TestSpeakerIsDeletedAndComesBack(t *testing.T) {
	s, owner := served(t)
	s.Taint(owner, "e2e-no-speaker")
	stop := s.Measure(s.addrs...)
	s.DeleteSpeaker(owner, -1)
	next := s.announcedByOneOf(s.OtherNodes(owner)...)
	s.steady(next)
	s.Untaint(owner, "e2e-no-speaker")
	s.WaitSpeaker(owner, "")
	s.announcedBy(owner)
	s.steady(owner)
	shortOutages(t, stop(), time.Second)
}

// A speaker that is killed comes back on its node; in the end that node has its
// addresses, alone.
func TestSpeakerIsKilled(t *testing.T) {
	s, owner := served(t)
	stop := s.Measure(s.addrs...)
	s.Must(s.Kill(s.Ctx, owner, "speaker"))
	s.Whole()
	s.announcedBy(owner)
	s.steady(owner)
	shortOutages(t, stop(), 5*time.Second)
}

// Rolling all speakers, as an upgrade does, ends where it began, and new
// connections hardly notice.
func TestRollingRestartOfTheSpeakers(t *testing.T) {
	s, owner := served(t)
	stop := s.Measure(s.addrs...)
	_, err := s.Kubectl(s.Ctx, "-n", herald.Namespace, "rollout", "restart", "daemonset/speaker")
	s.Must(err)
	s.Must(herald.WaitReady(s.Ctx, s.Cluster))
	s.Whole()
	s.announcedBy(owner)
	s.steady(owner)
	shortOutages(t, stop(), time.Second)
}

// The owner loses power: another node takes over for new connections; when the
// owner has booted, it has its addresses back.
func TestOwnerLosesPower(t *testing.T) {
	s, owner := served(t)
	stop := s.Measure(s.addrs...)
	boot := s.PowerOff(owner)
	next := s.announcedByOneOf(s.OtherNodes(owner)...)
	for _, a := range s.addrs {
		s.Reaches(a)
	}
	shortOutages(t, stop(), 5*time.Second)
	s.steady(next)
	boot()
	s.announcedBy(owner)
	s.steady(owner)
}

// The owner's cable is pulled: another takes over, and the owner, which is back
// with its old table, answers for the addresses again, over NDP too.
func TestOwnerLosesItsLink(t *testing.T) {
	s, owner := served(t)
	stop := s.Measure(s.addrs...)
	plug := s.PullCable(owner, "eth0")
	s.announcedByOneOf(s.OtherNodes(owner)...)
	plug()
	s.announcedBy(owner)
	for _, a := range s.addrs {
		s.Reaches(a)
	}
	s.steady(owner)
	shortOutages(t, stop(), 5*time.Second)
	// Meanwhile both sides reached the API server, and each believed that it
	// announced: they tell their view when it changes, but do not fill the API
	// server with their dispute.
	events, err := s.ServiceEvents("web", "nodeAssigned")
	s.Must(err)
	if len(events) > 20 {
		t.Errorf("%d events nodeAssigned for two moves: %+v", len(events), events)
	}
}

// The link of the only node that may announce goes down and up: nobody else
// steps in, and it answers again, over NDP too, for whose groups the kernel has
// forgotten.
func TestLinkOfTheOnlyNodeFlaps(t *testing.T) {
	s := stageFor(t, "nodeSelectors: ["+on("node2")+"]")
	s.announcedBy("node2")
	for range 2 {
		plug := s.PullCable("node2", "eth0")
		s.Unanswered("eth0", time.Second, s.addrs...)
		plug()
		s.announcedBy("node2")
	}
}

// Without the API server traffic goes on, and an owner that is lost is replaced:
// takeover needs the other speakers only. When everything is back, so is the
// owner.
func TestTakeoverWithoutTheAPIServer(t *testing.T) {
	s, owner := served(t)
	s.Step("the API server stops")
	start := s.StopProgram("cp", "kube-apiserver")
	calm := s.Measure(s.addrs...)
	s.steady(owner)
	for _, r := range calm() {
		if r.Lost > 0 {
			t.Errorf("%s: %d of %d connections failed because the API server is away", r.Target, r.Lost, r.Total)
		}
	}

	s.Step("the owner is lost")
	stop := s.Measure(s.addrs...)
	resume := s.Pause(owner)
	var next string
	s.Eventually(harness.Patience, func() (err error) {
		if next, err = s.Answerer(s.addrs[0], "eth0"); err == nil && (next == "" || next == owner) {
			err = fmt.Errorf("%s is answered for by %q, want another than %s", s.addrs[0], next, owner)
		}
		return err
	})
	s.AnsweredBy(next, s.addrs...)
	for _, a := range s.addrs {
		s.Reaches(a)
	}
	shortOutages(t, stop(), 5*time.Second)
	s.steady(next)

	// The owner wakes up and believes that it still is the owner; with the API
	// server still away it is so again, and the other steps back.
	s.Step("the owner wakes up")
	resume()
	s.AnsweredBy(owner, s.addrs...)
	s.Step("the API server is back")
	start()
	s.announcedBy(owner)
	s.steady(owner)
	s.Step("only what is to be cleaned up is left")
}
