package report

import (
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/observed"
)

var (
	tor1  = netip.MustParseAddr("192.0.2.1")
	self  = netip.MustParseAddr("192.0.2.10")
	clock = time.Unix(5000, 123456789)
)

// up is an established session with tor1.
func up(change ...func(*observed.Session)) observed.Session {
	s := observed.Session{
		Peer: "tor1", Remote: tor1, Local: self, Port: 179, State: observed.Established, Since: clock,
		RemoteASN: 64600, RemoteID: tor1, HoldTime: 90 * time.Second, KeepaliveTime: 30 * time.Second, IPv4: true, SentIPv4: 7,
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// idle is a session with tor1 that is not established.
func idle(state observed.SessionState, why reason.Reason, message string) observed.Session {
	return observed.Session{Peer: "tor1", Remote: tor1, Port: 179, State: state, Since: clock, Reason: why, Message: message}
}

// down says how the session ended the last time.
func down(s observed.Session, at time.Time, message string) observed.Session {
	if s.State == observed.Established && at.After(s.Since) {
		s.Since = at // established again
	}
	s.LastDown = observed.SessionDown{At: at, Reason: reason.PeerNotification, Message: message}
	return s
}

// the returns the one session.
func the(t *testing.T, s observed.Session, bfd observed.BFD) session {
	t.Helper()
	for _, one := range me.sessions(observed.BGP{s}, bfd) {
		return one
	}
	t.Fatal("no session")
	return session{}
}

func TestWhatASessionSays(t *testing.T) {
	since := metav1.NewTime(time.Unix(5000, 0))
	full := up(func(s *observed.Session) {
		s.VRF, s.IPv6, s.GracefulRestart, s.SentIPv6, s.Received = "red", true, true, 3, 2
		s.LastDown = observed.SessionDown{At: clock.Add(-time.Hour), Reason: reason.HoldTimerExpired, Message: "Hold Timer Expired"}
	})
	bfd := observed.BFD{{Remote: tor1, VRF: "red"}: {State: observed.BFDUp, Since: clock, WasUp: true, Transmit: 300 * time.Millisecond, Detect: 900 * time.Millisecond}}
	for _, tt := range []struct {
		name    string
		session observed.Session
		bfd     observed.BFD
		want    v1alpha1.BGPSessionStatusStatus
	}{
		{"established, with everything", full, bfd, v1alpha1.BGPSessionStatusStatus{
			Node: "node-a", Peer: "tor1", PeerAddress: "192.0.2.1", LocalAddress: "192.0.2.10", VRF: "red", State: "Established", Since: &since,
			LastDown:  &v1alpha1.SessionDown{Time: ptr.To(metav1.NewTime(time.Unix(1400, 0))), Reason: string(reason.HoldTimerExpired), Message: "Hold Timer Expired"},
			RemoteASN: 64600, RemoteRouterID: "192.0.2.1", HoldTimeSeconds: ptr.To(int32(90)), KeepaliveTimeSeconds: ptr.To(int32(30)),
			Families: []v1alpha1.AddressFamily{"IPv4", "IPv6"}, GracefulRestart: true,
			SentPrefixes: &v1alpha1.PrefixCounts{IPv4: 7, IPv6: 3}, ReceivedPrefixes: 2,
			BFD: &v1alpha1.BFDSessionStatus{State: "Up", Since: &since, TransmitIntervalMilliseconds: 300, DetectionTimeMilliseconds: 900},
		}},
		{"a hold time of zero is told", up(func(s *observed.Session) {
			s.HoldTime, s.KeepaliveTime, s.IPv4, s.IPv6, s.SentIPv4 = 0, 0, false, true, 0
		}), nil, v1alpha1.BGPSessionStatusStatus{
			Node: "node-a", Peer: "tor1", PeerAddress: "192.0.2.1", LocalAddress: "192.0.2.10", State: "Established", Since: &since,
			RemoteASN: 64600, RemoteRouterID: "192.0.2.1", HoldTimeSeconds: ptr.To(int32(0)), KeepaliveTimeSeconds: ptr.To(int32(0)),
			Families: []v1alpha1.AddressFamily{"IPv6"}, SentPrefixes: &v1alpha1.PrefixCounts{},
		}},
		{"at the moment of its end: the end is told with what follows", up(func(s *observed.Session) {
			s.LastDown = observed.SessionDown{At: clock.Add(time.Second), Reason: reason.PeerNotification}
		}), nil, v1alpha1.BGPSessionStatusStatus{
			Node: "node-a", Peer: "tor1", PeerAddress: "192.0.2.1", LocalAddress: "192.0.2.10", State: "Established", Since: &since,
			RemoteASN: 64600, RemoteRouterID: "192.0.2.1", HoldTimeSeconds: ptr.To(int32(90)), KeepaliveTimeSeconds: ptr.To(int32(30)),
			Families: []v1alpha1.AddressFamily{"IPv4"}, SentPrefixes: &v1alpha1.PrefixCounts{IPv4: 7},
		}},
		{"blocked: nothing is negotiated", idle(observed.Blocked, reason.SecretMissing, "Secret x"), nil, v1alpha1.BGPSessionStatusStatus{
			Node: "node-a", Peer: "tor1", PeerAddress: "192.0.2.1", State: "Blocked", Since: &since, Reason: string(reason.SecretMissing), Message: "Secret x",
		}},
		{"an unnumbered peer that is not known yet, and BFD of others", observed.Session{Peer: "tor1", State: observed.Idle, Since: clock}, bfd, v1alpha1.BGPSessionStatusStatus{
			Node: "node-a", Peer: "tor1", State: "Idle", Since: &since,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, the(t, tt.session, tt.bfd).status); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhichBFDSessionWatches(t *testing.T) {
	linkLocal := netip.MustParseAddr("fe80::1")
	id := func(n uint32) observed.BFDSession {
		return observed.BFDSession{Transmit: time.Duration(n) * time.Millisecond}
	}
	bfd := observed.BFD{
		{Remote: tor1}:                                            id(1),
		{Remote: tor1, VRF: "red"}:                                id(2),
		{Remote: linkLocal, Interface: "eth0"}:                    id(3),
		{Remote: linkLocal, Interface: "eth1"}:                    id(4),
		{Remote: netip.MustParseAddr("10.0.0.1"), Local: self}:    id(5),
		{Remote: netip.MustParseAddr("10.0.0.1"), Multihop: true}: id(6),
	}
	for _, tt := range []struct {
		name    string
		session observed.Session
		want    int32
	}{
		{"by its address", observed.Session{Remote: tor1}, 1},
		{"in a VRF", observed.Session{Remote: tor1, VRF: "red"}, 2},
		{"in another VRF", observed.Session{Remote: tor1, VRF: "blue"}, 0},
		{"of two link-local ones, that on the interface", observed.Session{Remote: linkLocal.WithZone("eth1")}, 4},
		{"of two, that with the local address", observed.Session{Remote: netip.MustParseAddr("10.0.0.1"), Local: self}, 5},
		{"with another local address", observed.Session{Remote: netip.MustParseAddr("10.0.0.1"), Local: tor1}, 6},
		{"nobody watches it", observed.Session{Remote: self}, 0},
		{"the peer is not known", observed.Session{}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := int32(0)
			if b := the(t, tt.session, bfd).status.BFD; b != nil {
				got = b.TransmitIntervalMilliseconds
			}
			if got != tt.want {
				t.Errorf("number %d, want %d", got, tt.want)
			}
		})
	}
}

// Dynamic neighbours are told apart by address; the address of others may change.
func TestWhichSessionsShareAnObject(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.2")
	names := func(all ...observed.Session) map[string]session { return me.sessions(all, nil) }
	if n := names(observed.Session{Peer: "rack", Dynamic: true, Remote: tor1}, observed.Session{Peer: "rack", Dynamic: true, Remote: other}); len(n) != 2 {
		t.Errorf("%d objects of two dynamic neighbours", len(n))
	}
	before, after := names(observed.Session{Peer: "tor1"}), names(observed.Session{Peer: "tor1", Remote: tor1})
	if diff := cmp.Diff(keys(before), keys(after)); diff != "" {
		t.Errorf("an unnumbered peer that became known has another object:\n%s", diff)
	}
	one := names(observed.Session{Peer: "rack", Dynamic: true, Remote: tor1})
	both := names(observed.Session{Peer: "rack", Dynamic: true, Remote: tor1}, observed.Session{Peer: "rack", Dynamic: true, Remote: other})
	for name := range one {
		if _, ok := both[name]; !ok {
			t.Error("a second neighbour renames the first one's object")
		}
	}
}

func keys(m map[string]session) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return all
}

// What a peer sends comes back from the API server as it was written.
func TestAPeersWordsAreMadeReadable(t *testing.T) {
	for text, want := range map[string]string{
		"maintenance at 10":                "maintenance at 10",
		" \x00bell\x07\x1b[31mred\n ":      "bell  [31mred",
		"half a rune \xc3":                 "half a rune ?",
		"Wartung für Gerät №5":             "Wartung für Gerät №5",
		strings.Repeat("ü", 10*maxSaid):    "",
		strings.Repeat("\xff", 10*maxSaid): "",
	} {
		got := readable(text)
		if want != "" && got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if !utf8.ValidString(got) || len(got) > maxSaid {
			t.Errorf("%q: got %q, of %d bytes", text, got, len(got))
		}
	}
}

func TestHowSoonASessionIsTold(t *testing.T) {
	bfd := func(state observed.BFDState, change ...func(*observed.BFDSession)) observed.BFD {
		b := observed.BFDSession{State: state, Since: clock}
		for _, f := range change {
			f(&b)
		}
		return observed.BFD{{Remote: tor1}: b}
	}
	for _, tt := range []struct {
		name           string
		have, want     observed.Session
		haveBFD, onBFD observed.BFD
		when           urgency
	}{
		{"nothing", up(), up(), nil, nil, never},
		{"a fraction of a second", up(), up(func(s *observed.Session) { s.Since = clock.Add(time.Millisecond) }), nil, nil, never},
		{"lost", up(), idle(observed.Active, reason.HoldTimerExpired, ""), nil, nil, promptly},
		{"established", idle(observed.OpenConfirm, "", ""), up(), nil, nil, promptly},
		{"prefixes", up(), up(func(s *observed.Session) { s.SentIPv4 = 8 }), nil, nil, slowly},
		{"refused prefixes", up(), up(func(s *observed.Session) { s.Received = 8 }), nil, nil, slowly},
		{"established since another time", up(), up(func(s *observed.Session) { s.Since = clock.Add(time.Hour) }), nil, nil, slowly},
		{"it fell in between", up(), down(up(), clock.Add(time.Minute), "bye"), nil, nil, promptly},
		{"it goes on trying", idle(observed.Connect, reason.PeerUnreachable, "no route"), idle(observed.Active, reason.PeerUnreachable, "no route"), nil, nil, never},
		{"it is tried for longer", idle(observed.Idle, "", ""), idle(observed.OpenSent, "", ""), nil, nil, never},
		{"it is known why it fails", idle(observed.Connect, "", ""), idle(observed.Connect, reason.PeerUnreachable, "no route"), nil, nil, promptly},
		{"the same reason in other words", idle(observed.Connect, reason.PeerUnreachable, "port 1"), idle(observed.Connect, reason.PeerUnreachable, "port 2"), nil, nil, slowly},
		{"blocked", idle(observed.Connect, "", ""), idle(observed.Blocked, reason.SecretMissing, ""), nil, nil, promptly},
		{"another family", up(), up(func(s *observed.Session) { s.IPv6 = true }), nil, nil, promptly},
		{"BFD begins", up(), up(), nil, bfd(observed.BFDDown), promptly},
		{"BFD comes up", up(), up(), bfd(observed.BFDDown), bfd(observed.BFDUp), promptly},
		{"BFD is faster", up(), up(), bfd(observed.BFDUp), bfd(observed.BFDUp, func(b *observed.BFDSession) { b.Detect = time.Second }), slowly},
	} {
		t.Run(tt.name, func(t *testing.T) {
			have, want := the(t, tt.have, tt.haveBFD).status, the(t, tt.want, tt.onBFD).status
			if got := urgencyOf(have, want); got != tt.when {
				t.Errorf("got %d, want %d", got, tt.when)
			}
		})
	}
}

func TestEventsOfASession(t *testing.T) {
	bfd := func(state observed.BFDState, why reason.Reason) observed.BFD {
		return observed.BFD{{Remote: tor1}: {State: state, Since: clock, WasUp: true, Reason: why, Message: "of BFD"}}
	}
	lost := down(idle(observed.Active, reason.PeerNotification, "x"), clock, "Cease, Administrative Shutdown: maintenance at 10")
	for _, tt := range []struct {
		name         string
		told, now    *observed.Session
		was, watched observed.BFD
		want         []note
	}{
		{"it begins to be tried", nil, ptr.To(idle(observed.Connect, "", "")), nil, nil, nil},
		{"established at once", nil, ptr.To(up()), nil, nil, []note{{reason: "sessionEstablished", text: `node "node-a" has an established session with 192.0.2.1, AS 64600`}}},
		{"established after a while", ptr.To(idle(observed.Connect, reason.PeerUnreachable, "")), ptr.To(up()), nil, nil,
			[]note{{reason: "sessionEstablished", text: `node "node-a" has an established session with 192.0.2.1, AS 64600`}}},
		{"still established", ptr.To(up()), ptr.To(up(func(s *observed.Session) { s.SentIPv4 = 100 })), nil, nil, nil},
		{"lost, with the peer's words", ptr.To(up()), ptr.To(lost), nil, nil,
			[]note{{warning: true, reason: "sessionLost", text: `node "node-a" lost the session with 192.0.2.1: PeerNotification (Cease, Administrative Shutdown: maintenance at 10)`}}},
		{"still lost", ptr.To(lost), ptr.To(lost), nil, nil, nil},
		{"lost, and nothing known of why", ptr.To(up()), ptr.To(idle(observed.Active, "", "")), nil, nil,
			[]note{{warning: true, reason: "sessionLost", text: `node "node-a" lost the session with 192.0.2.1: no reason is known`}}},
		{"lost and back between two looks", ptr.To(up()), ptr.To(down(up(), clock.Add(time.Second), "bye")), nil, nil,
			[]note{{warning: true, reason: "sessionLost", text: `node "node-a" lost the session with 192.0.2.1: PeerNotification (bye); it is established again`}}},
		{"up and lost between two looks", ptr.To(lost), ptr.To(down(idle(observed.Active, "", ""), clock.Add(time.Minute), "again")), nil, nil,
			[]note{{warning: true, reason: "sessionLost", text: `node "node-a" lost the session with 192.0.2.1: PeerNotification (again)`}}},
		{"blocked", nil, ptr.To(idle(observed.Blocked, reason.SecretMissing, "Secret x is not there")), nil, nil,
			[]note{{warning: true, reason: "sessionBlocked", text: `node "node-a" cannot try the session with 192.0.2.1: SecretMissing (Secret x is not there)`}}},
		{"still blocked", ptr.To(idle(observed.Blocked, reason.SecretMissing, "a")), ptr.To(idle(observed.Blocked, reason.SecretMissing, "b")), nil, nil, nil},
		{"no longer blocked", ptr.To(idle(observed.Blocked, reason.SecretMissing, "a")), ptr.To(idle(observed.Connect, "", "")), nil, nil, nil},
		{"BFD comes up", ptr.To(up()), ptr.To(up()), bfd(observed.BFDInit, ""), bfd(observed.BFDUp, ""),
			[]note{{reason: "bfdUp", text: `node "node-a" has BFD with 192.0.2.1 up`}}},
		{"BFD takes the session down", ptr.To(up()), ptr.To(down(idle(observed.HeldDown, "", ""), clock, "BFD")), bfd(observed.BFDUp, ""), bfd(observed.BFDDown, reason.HoldTimerExpired),
			[]note{{warning: true, reason: "sessionLost", text: `node "node-a" lost the session with 192.0.2.1: PeerNotification (BFD)`},
				{warning: true, reason: "bfdDown", text: `node "node-a" has BFD with 192.0.2.1 no longer up: HoldTimerExpired (of BFD)`}}},
		{"nobody asks for BFD any more", ptr.To(up()), ptr.To(up()), bfd(observed.BFDUp, ""), nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var told *v1alpha1.BGPSessionStatusStatus
			if tt.told != nil {
				told = &[]v1alpha1.BGPSessionStatusStatus{the(t, *tt.told, tt.was).status}[0]
			}
			got := me.transitions(told, the(t, *tt.now, tt.watched).status)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(note{}), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPace(t *testing.T) {
	var p pace
	begin := time.Unix(1000, 0)
	now := begin
	var at []time.Duration
	for range 8 {
		if next := p.next(); next.After(now) {
			now = next
		}
		p.take(now)
		at = append(at, now.Sub(begin))
	}
	want := []time.Duration{0, 0, 0, 0, paceApart, 2 * paceApart, 3 * paceApart, 4 * paceApart}
	if diff := cmp.Diff(want, at); diff != "" {
		t.Errorf("writes at (-want +got):\n%s", diff)
	}
	if later := now.Add(paceBurst * paceApart); p.next().After(later) {
		t.Error("patience does not restore the burst")
	}
}
