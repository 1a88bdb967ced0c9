package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/observed"
)

// inTime runs a test with virtual time, on a cluster and the Reporter of node-a.
func inTime(t *testing.T, test func(t *testing.T, c *fakeCluster, r *running)) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t)
		r := c.start(t, "node-a", "ds-1", true)
		synctest.Wait()
		test(t, c, r)
	})
}

// after tells of the sessions, waits, and returns what was written meanwhile.
func after(c *fakeCluster, r *running, wait time.Duration, bfd observed.BFD, all ...observed.Session) []string {
	before := len(c.writes())
	r.SessionsChanged(all, bfd)
	time.Sleep(wait)
	synctest.Wait()
	return c.writes()[before:]
}

func same(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), append([]string{}, got...)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

const (
	nowUp   = `event BGPPeer tor1 sessionEstablished: node "node-a" has an established session with 192.0.2.1, AS 64600`
	nowLost = `event BGPPeer tor1 sessionLost: node "node-a" lost the session with 192.0.2.1: PeerNotification (bye)`
)

func TestTheLifeOfASession(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		name := sessionName("tor1", "node-a", "")
		same(t, "tried", after(c, r, time.Second, nil, idle(observed.Idle, reason.SessionStarting, "")),
			"create "+name, "session "+name+" tor1@node-a Idle")
		same(t, "still tried", after(c, r, time.Minute, nil, idle(observed.Connect, reason.SessionStarting, "")))
		same(t, "established, at once", after(c, r, 0, nil, up()), "session "+name+" tor1@node-a Established", nowUp)
		same(t, "the same again", after(c, r, time.Minute, nil, up()))
		same(t, "lost, at once", after(c, r, 0, nil, down(idle(observed.Active, reason.PeerNotification, "bye"), clock, "bye")),
			"session "+name+" tor1@node-a Active", nowLost)
		if s := c.session("tor1", "node-a", ""); s.LastDown == nil || s.LastDown.Message != "bye" || s.RemoteASN != 0 || s.SentPrefixes != nil {
			t.Errorf("after the end: %+v", s)
		}
		same(t, "no longer wanted", after(c, r, 0, nil), "delete "+name)
		same(t, "and nothing more", after(c, r, time.Hour, nil))
	})
}

// A number that changes all the time is told every ten seconds.
func TestMereNumbersAreToldSlowly(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		after(c, r, time.Minute, nil, up())
		before := len(c.writes())
		for i := range 600 {
			r.SessionsChanged(observed.BGP{up(func(s *observed.Session) { s.SentIPv4 = 100 + i })}, nil)
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(c.writes()) - before; n < 6 || n > 7 {
			t.Errorf("%d writes in a minute, want 6 or 7", n)
		}
		time.Sleep(numbersEvery)
		synctest.Wait()
		if n := c.session("tor1", "node-a", "").SentPrefixes.IPv4; n != 699 {
			t.Errorf("%d prefixes in the end, want the last number, 699", n)
		}
		same(t, "and then nothing", after(c, r, time.Hour, nil, up(func(s *observed.Session) { s.SentIPv4 = 699 })))
	})
}

// Nobody calls for a number; it is looked up.
func TestNumbersAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFake(t)
		c.owners["speaker-node-a"] = "ds-1"
		var sent atomic.Int64
		asked := 0
		r := newReporter(Config{Node: "node-a", Pod: "speaker-node-a", Namespace: "herald", Sessions: func() (observed.BGP, observed.BFD) {
			asked++
			return observed.BGP{up(func(s *observed.Session) { s.SentIPv4 = int(sent.Load()) })}, nil
		}}, c)
		stop := runUntil(t, r)
		defer stop()
		time.Sleep(time.Hour)
		synctest.Wait()
		if asked > 0 {
			t.Errorf("asked %d times though there are no sessions", asked)
		}
		r.SessionsChanged(observed.BGP{up(func(s *observed.Session) { s.SentIPv4 = 0 })}, nil)
		for range 3 {
			sent.Add(10)
			time.Sleep(2 * numbersEvery)
			synctest.Wait()
			if n := c.session("tor1", "node-a", "").SentPrefixes.IPv4; n != sent.Load() {
				t.Errorf("%d prefixes are told, want %d", n, sent.Load())
			}
		}
		before := len(c.writes())
		time.Sleep(time.Hour)
		synctest.Wait()
		same(t, "the same number", c.writes()[before:])
	})
}

func TestAFlapStormDoesNotFlood(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		after(c, r, time.Minute, nil, up())
		before := len(c.writes())
		bfd := func(state observed.BFDState) observed.BFD {
			return observed.BFD{{Remote: tor1}: {State: state, WasUp: true, Since: time.Now()}}
		}
		var last observed.Session
		for i := range 600 {
			last = down(up(func(s *observed.Session) { s.Since = time.Now() }), time.Now(), "bye")
			state := observed.BFDUp
			if i%2 == 0 {
				last = down(idle(observed.Active, reason.PeerNotification, "bye"), time.Now(), "bye")
				state = observed.BFDDown
			}
			r.SessionsChanged(observed.BGP{last}, bfd(state))
			time.Sleep(100 * time.Millisecond)
		}
		if n := len(c.writes()) - before; n > 110 {
			t.Errorf("%d writes in a minute of flaps every 100 ms, want less than two a second", n)
		}
		time.Sleep(paceApart)
		synctest.Wait()
		if s := c.session("tor1", "node-a", ""); s.State != v1alpha1.SessionState(last.State) || s.BFD.State != "Up" {
			t.Errorf("when it is over: %s, BFD %s; want %s, Up", s.State, s.BFD.State, last.State)
		}
		n := len(c.writes())
		time.Sleep(time.Hour)
		synctest.Wait()
		same(t, "nothing is left to tell", c.writes()[n:])
	})
}

// The others are told at once while one flaps.
func TestAFlapStormHarmsNoOtherSession(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		other := func(state observed.SessionState) observed.Session {
			s := idle(state, reason.PeerSilent, "")
			s.Peer = "tor2"
			return s
		}
		for i := range 100 {
			flapping := up()
			if i%2 == 0 {
				flapping = down(idle(observed.Active, "", ""), time.Now(), "bye")
			}
			r.SessionsChanged(observed.BGP{flapping, other(observed.Connect)}, nil)
			time.Sleep(100 * time.Millisecond)
		}
		after(c, r, 0, nil, up(), other(observed.Blocked))
		if s := c.session("tor2", "node-a", ""); s.State != "Blocked" {
			t.Errorf("tor2 is told to be %s, want Blocked at once", s.State)
		}
	})
}

func TestARestartTellsNothingOfSessionsThatComeBack(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		bfd := func(state observed.BFDState) observed.BFD {
			return observed.BFD{{Remote: tor1}: {State: state, WasUp: state == observed.BFDUp, Since: clock}}
		}
		fell := down(up(), clock.Add(-time.Hour), "long ago")
		after(c, r, time.Minute, bfd(observed.BFDUp), fell)
		r.stop()
		name := sessionName("tor1", "node-a", "")

		again := c.start(t, "node-a", "ds-1", true)
		same(t, "nobody knows anything yet", after(c, again, time.Second, nil))
		same(t, "it is tried", after(c, again, time.Second, bfd(observed.BFDDown), idle(observed.OpenSent, reason.SessionStarting, "")))
		same(t, "it is back before BFD", after(c, again, time.Second, bfd(observed.BFDInit), up()))
		same(t, "it is back", after(c, again, time.Hour, bfd(observed.BFDUp), up()))
		if s := c.session("tor1", "node-a", ""); s.LastDown == nil || s.LastDown.Message != "long ago" {
			t.Errorf("the last end was forgotten: %+v", s.LastDown)
		}
		same(t, "since another time: a number", after(c, again, time.Hour, bfd(observed.BFDUp), up(func(s *observed.Session) { s.Since = clock.Add(time.Hour) })),
			"session "+name+" tor1@node-a Established bfd Up")
		again.stop()

		third := c.start(t, "node-a", "ds-1", true)
		same(t, "it does not come back: that is told in the end",
			after(c, third, startWithin-time.Second, bfd(observed.BFDDown), idle(observed.Connect, reason.PeerSilent, "")))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s := c.session("tor1", "node-a", ""); s.State != "Connect" || s.Reason != string(reason.PeerSilent) || s.BFD.State != "Down" {
			t.Errorf("told %s for %s, BFD %s", s.State, s.Reason, s.BFD.State)
		}
		third.stop()

		fourth := c.start(t, "node-a", "ds-1", true)
		blocked := idle(observed.Blocked, reason.SecretMissing, "")
		if n := count(after(c, fourth, 0, nil, blocked), "event BGPPeer tor1 sessionBlocked"); n != 1 {
			t.Errorf("%d events that it is blocked, want one, at once", n)
		}
		fourth.stop()

		fifth := c.start(t, "node-a", "ds-1", true)
		same(t, "still blocked", after(c, fifth, time.Hour, nil, blocked))
		fifth.stop()

		sixth := c.start(t, "node-a", "ds-2", true)
		same(t, "Herald was installed anew", after(c, sixth, time.Second, nil, blocked),
			"delete "+name, "create "+name, "session "+name+" tor1@node-a Blocked")
		sixth.stop()

		last := c.start(t, "node-a", "ds-2", true)
		same(t, "the peer was deleted meanwhile", after(c, last, time.Hour, nil), "delete "+name)
	})
}

func TestWhatOthersDoToASessionsObjectIsRepaired(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		name := sessionName("tor1", "node-a", "")
		after(c, r, time.Minute, nil, up())
		before := len(c.writes())
		c.mu.Lock()
		s := c.sessions[name].DeepCopy()
		delete(c.sessions, name)
		s.ResourceVersion = c.next()
		c.tell(func(h handlers) { h.sessionSeen(s, true) })
		c.mu.Unlock()
		synctest.Wait()
		same(t, "it comes back, and no event", c.writes()[before:], "create "+name, "session "+name+" tor1@node-a Established")

		before = len(c.writes())
		c.mu.Lock()
		s = c.sessions[name].DeepCopy()
		s.Status.State, s.ResourceVersion = "Idle", c.next()
		c.putSession(s)
		c.mu.Unlock()
		synctest.Wait()
		same(t, "it says the truth again, and no event", c.writes()[before:], "session "+name+" tor1@node-a Established")
	})
}

func TestFailedWritesOfSessionsAreTriedAgain(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		name := sessionName("tor1", "node-a", "")
		c.mu.Lock()
		c.fail["create "+name], c.fail["session "+name], c.fail["event BGPPeer tor1"] = 3, 2, 1
		c.mu.Unlock()
		other := up(func(s *observed.Session) { s.Peer = "tor2" })
		same(t, "the other is told at once", after(c, r, 0, nil, up(), other), func() []string {
			n := sessionName("tor2", "node-a", "")
			return []string{"create " + n, "session " + n + " tor2@node-a Established", strings.ReplaceAll(nowUp, "tor1", "tor2")}
		}()...)
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := c.session("tor1", "node-a", ""); s.State != "Established" {
			t.Errorf("told %q in the end", s.State)
		}
		if v := gauge(t, r, "metallb_k8s_client_update_errors_total"); v != 5 {
			t.Errorf("%v errors counted, want 5", v)
		}
	})
}

func TestALaggingCacheCausesNoSecondWriteOfSessions(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		c.setLag()
		after(c, r, time.Second, nil, idle(observed.Connect, "", ""))
		after(c, r, time.Minute, nil, up())
		n := len(c.writes())
		c.catchUp()
		time.Sleep(time.Hour)
		synctest.Wait()
		same(t, "the cache catches up", c.writes()[n:])
	})
}

func TestDynamicNeighboursComeAndGo(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		rack := func(n int) observed.BGP {
			all := observed.BGP{{Peer: "rack", Dynamic: true, State: observed.Active, Since: clock, Reason: reason.PeerAwaited}}
			for i := range n {
				all = append(all, up(func(s *observed.Session) {
					s.Peer, s.Dynamic, s.Remote = "rack", true, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
				}))
			}
			return all
		}
		for _, n := range []int{3, 5, 1, 0} {
			after(c, r, time.Minute, nil, rack(n)...)
			c.mu.Lock()
			if got := len(c.sessions); got != n+1 {
				t.Errorf("%d objects for %d neighbours and the prefix", got, n)
			}
			c.mu.Unlock()
		}
		r.sessions.mu.Lock()
		if n := len(r.sessions.objects.gone); n != 0 {
			t.Errorf("%d objects that are gone are remembered", n)
		}
		r.sessions.mu.Unlock()
	})
}

func TestTheFirstNodeSweepsSessionsOfSpeakersThatAreNoMore(t *testing.T) {
	inTime(t, func(t *testing.T, c *fakeCluster, r *running) {
		r.isFirst.Store(false)
		for i := range 4 {
			other := c.start(t, fmt.Sprintf("node-%d", i), "ds-1", false)
			after(c, other, time.Second, nil, up())
			other.stop()
		}
		after(c, r, time.Minute, nil, up())
		left := func(what string, want ...string) {
			t.Helper()
			c.mu.Lock()
			defer c.mu.Unlock()
			var got []string
			for _, s := range c.sessions {
				got = append(got, s.Status.Node)
			}
			slices.Sort(got)
			same(t, what, got, want...)
		}
		has := func(nodes ...string) {
			c.mu.Lock()
			c.has = nodes
			c.mu.Unlock()
		}
		has("node-0", "node-1", "node-3", "node-a")
		time.Sleep(time.Hour)
		synctest.Wait()
		left("who is not the first removes nothing", "node-0", "node-1", "node-2", "node-3", "node-a")

		r.isFirst.Store(true)
		r.BecameFirst()
		synctest.Wait()
		left("the node left the cluster: at once", "node-0", "node-1", "node-3", "node-a")
		has("node-0", "node-1", "node-a")
		time.Sleep(sweepEvery)
		synctest.Wait()
		left("another node left: soon", "node-0", "node-1", "node-a")
		time.Sleep(time.Hour)
		synctest.Wait()
		left("it cannot be known who is alive", "node-0", "node-1", "node-a")

		r.alive.Store(&[]string{"node-a"})
		time.Sleep(2 * sweepEvery)
		r.alive.Store(&[]string{"node-0", "node-a"})
		time.Sleep(deadAfter)
		synctest.Wait()
		left("node-0 was away for a moment, node-1 is dead", "node-0", "node-a")
	})
}
