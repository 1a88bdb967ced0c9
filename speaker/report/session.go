package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/observed"
)

// session is what the BGPSessionStatus of a session should say.
type session struct {
	name   string
	status v1alpha1.BGPSessionStatusStatus
	// fell is true if the session ended in the life of this process, and bfdRose
	// if BFD was up in it. Until then a session that is not up says little.
	fell, bfdRose bool
}

// sessions are all sessions of this node, by the names of their objects.
func (me identity) sessions(bgp observed.BGP, bfd observed.BFD) map[string]session {
	shared := map[string]int{}
	for _, s := range bgp {
		shared[s.Peer]++
	}
	all := make(map[string]session, len(bgp))
	for _, s := range bgp {
		remote := ""
		if s.Remote.IsValid() && (s.Dynamic || shared[s.Peer] > 1) {
			remote = s.Remote.String()
		}
		one := session{name: sessionName(s.Peer, me.node, remote), status: me.sessionStatus(s), fell: !s.LastDown.At.IsZero()}
		if s.State == observed.Established && s.LastDown.At.After(s.Since) {
			// The end is noted and what follows it is not: the next look has both.
			one.fell, one.status.LastDown = false, nil
		}
		if b, ok := watching(s, bfd); ok {
			one.status.BFD, one.bfdRose = bfdStatus(b), b.WasUp
		}
		all[one.name] = one
	}
	return all
}

func (me identity) sessionStatus(s observed.Session) v1alpha1.BGPSessionStatusStatus {
	st := v1alpha1.BGPSessionStatusStatus{
		Node: me.node, Peer: s.Peer, PeerAddress: address(s.Remote), LocalAddress: address(s.Local), VRF: s.VRF,
		State: v1alpha1.SessionState(s.State), Since: seconds(s.Since), Reason: string(s.Reason), Message: readable(s.Message),
	}
	if d := s.LastDown; !d.At.IsZero() {
		st.LastDown = &v1alpha1.SessionDown{Time: seconds(d.At), Reason: string(d.Reason), Message: readable(d.Message)}
	}
	if s.State != observed.Established {
		return st
	}
	hold, keepalive := int32(s.HoldTime/time.Second), int32(s.KeepaliveTime/time.Second)
	st.RemoteASN, st.RemoteRouterID = s.RemoteASN, address(s.RemoteID)
	st.HoldTimeSeconds, st.KeepaliveTimeSeconds = &hold, &keepalive
	if s.IPv4 {
		st.Families = append(st.Families, v1alpha1.IPv4)
	}
	if s.IPv6 {
		st.Families = append(st.Families, v1alpha1.IPv6)
	}
	st.GracefulRestart = s.GracefulRestart
	st.SentPrefixes = &v1alpha1.PrefixCounts{IPv4: int64(s.SentIPv4), IPv6: int64(s.SentIPv6)}
	st.ReceivedPrefixes = int64(s.Received)
	return st
}

func bfdStatus(b observed.BFDSession) *v1alpha1.BFDSessionStatus {
	return &v1alpha1.BFDSessionStatus{
		State: v1alpha1.BFDState(b.State.String()), Since: seconds(b.Since), Reason: string(b.Reason), Message: readable(b.Message),
		TransmitIntervalMilliseconds: int32(b.Transmit.Milliseconds()),
		DetectionTimeMilliseconds:    int32(b.Detect.Milliseconds()),
	}
}

// watching finds the BFD session that watches the peer of a BGP session: there
// is one for each pair of systems, whoever asks for it.
func watching(s observed.Session, bfd observed.BFD) (found observed.BFDSession, ok bool) {
	if !s.Remote.IsValid() {
		return found, false
	}
	var by observed.BFDPeer
	for p, b := range bfd {
		fits := p.Remote == s.Remote.WithZone("") && p.VRF == s.VRF &&
			(s.Remote.Zone() == "" || p.Interface == s.Remote.Zone()) &&
			(!p.Local.IsValid() || !s.Local.IsValid() || p.Local == s.Local.WithZone(""))
		if fits && (!ok || compareBFD(p, by) < 0) {
			found, by, ok = b, p, true
		}
	}
	return found, ok
}

// compareBFD puts those that are bound to an address or an interface first.
func compareBFD(a, b observed.BFDPeer) int {
	return cmp.Or(-a.Local.Compare(b.Local), -cmp.Compare(a.Interface, b.Interface), cmp.Compare(fmt.Sprint(a.Multihop), fmt.Sprint(b.Multihop)))
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// seconds is a time as an object can hold it; nil for none.
func seconds(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	s := metav1.NewTime(t.Truncate(time.Second))
	return &s
}

// maxSaid bounds a message of a session: part of it is in the peer's hands.
const maxSaid = 600

// readable makes of what a peer may have sent what an object can hold, byte for
// byte, and a terminal can show.
func readable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	return cut(strings.TrimSpace(text), maxSaid)
}

// trying tells whether a session is on its way from Idle to OpenConfirm. It
// goes back and forth there for as long as the peer does not answer.
func trying(s v1alpha1.SessionState) bool {
	switch observed.SessionState(s) {
	case observed.Established, observed.Blocked, observed.HeldDown:
		return false
	}
	return true
}

// urgency is how soon something is to be written.
type urgency int

const (
	never    urgency = iota // nothing changed
	slowly                  // mere numbers
	promptly                // the state
)

// urgencyOf tells how soon the object that says have must say want.
func urgencyOf(have, want v1alpha1.BGPSessionStatusStatus) urgency {
	if trying(have.State) && trying(want.State) {
		have.State, have.Since = want.State, want.Since
	}
	if equality.Semantic.DeepEqual(have, want) {
		return never
	}
	if equality.Semantic.DeepEqual(gist(have), gist(want)) {
		return slowly
	}
	return promptly
}

// gist leaves out what changes without a change of state.
func gist(s v1alpha1.BGPSessionStatusStatus) v1alpha1.BGPSessionStatusStatus {
	s.Since, s.Message, s.SentPrefixes, s.ReceivedPrefixes = nil, "", nil, 0
	if s.BFD != nil {
		s.BFD = &v1alpha1.BFDSessionStatus{State: s.BFD.State, Reason: s.BFD.Reason}
	}
	return s
}

// settle returns the status as it should be told after told. A process that is
// starting found that in an object: the session was up in an earlier life and is
// about to be again, which is no news.
func (s session) settle(told *v1alpha1.BGPSessionStatusStatus, starting bool) v1alpha1.BGPSessionStatusStatus {
	want := s.status
	if told == nil {
		return want
	}
	if want.LastDown == nil {
		want.LastDown = told.LastDown
	}
	if trying(told.State) && trying(want.State) && (want.Reason == "" || want.Reason == string(reason.SessionStarting)) {
		// One more attempt does not tell why the last one failed.
		want.Reason, want.Message = told.Reason, told.Message
	}
	if !starting {
		return want
	}
	if told.State == v1alpha1.SessionState(observed.Established) && trying(want.State) && !s.fell {
		return *told
	}
	if told.BFD != nil && want.BFD != nil && told.BFD.State == bfdUp && want.BFD.State != bfdUp && !s.bfdRose {
		want.BFD = told.BFD
	}
	return want
}

var bfdUp = v1alpha1.BFDState(observed.BFDUp.String())

// Reasons of the events on a BGPPeer.
const (
	eventEstablished = "sessionEstablished"
	eventLost        = "sessionLost"
	eventBlocked     = "sessionBlocked"
	eventBFDUp       = "bfdUp"
	eventBFDDown     = "bfdDown"
)

// transitions are the events that lead from what was told to what is told now.
func (me identity) transitions(told *v1alpha1.BGPSessionStatusStatus, now v1alpha1.BGPSessionStatusStatus) []note {
	var old v1alpha1.BGPSessionStatusStatus
	if told != nil {
		old = *told
	}
	var all []note
	add := func(warning bool, event, format string, args ...any) {
		all = append(all, note{warning: warning, reason: event, text: fmt.Sprintf("node %q "+format, append([]any{me.node}, args...)...)})
	}
	established := v1alpha1.SessionState(observed.Established)
	blocked := v1alpha1.SessionState(observed.Blocked)
	with := cmp.Or(now.PeerAddress, old.PeerAddress, "the peer")
	wasUp, isUp := old.State == established, now.State == established
	switch again := ""; {
	case now.State == blocked:
		if old.State != blocked || old.Reason != now.Reason {
			add(true, eventBlocked, "cannot try the session with %s: %s", with, because(now.Reason, now.Message))
		}
	case wasUp && !isUp, told != nil && fellAgain(old.LastDown, now.LastDown):
		if isUp {
			again = "; it is established again"
		}
		why := now.LastDown
		if why == nil {
			why = &v1alpha1.SessionDown{Reason: now.Reason, Message: now.Message}
		}
		add(true, eventLost, "lost the session with %s: %s%s", with, because(why.Reason, why.Message), again)
	case isUp && !wasUp:
		add(false, eventEstablished, "has an established session with %s, AS %d", with, now.RemoteASN)
	}
	wasUp = old.BFD != nil && old.BFD.State == bfdUp
	isUp = now.BFD != nil && now.BFD.State == bfdUp
	switch {
	case isUp && !wasUp:
		add(false, eventBFDUp, "has BFD with %s up", with)
	case wasUp && !isUp && now.BFD != nil:
		add(true, eventBFDDown, "has BFD with %s no longer up: %s", with, because(now.BFD.Reason, now.BFD.Message))
	}
	return all
}

// fellAgain tells whether the session ended between two looks.
func fellAgain(old, now *v1alpha1.SessionDown) bool {
	return now != nil && (old == nil || !now.Time.Equal(old.Time))
}

// because joins a reason with what it leaves open.
func because(why, message string) string {
	text := cmp.Or(message, reason.Reason(why).Sentence())
	switch {
	case why == "":
		return cmp.Or(text, "no reason is known")
	case text == "":
		return why
	}
	return why + " (" + text + ")"
}

// newSession is the object before its status is written.
func (me identity) newSession(name, peer string) *v1alpha1.BGPSessionStatus {
	return &v1alpha1.BGPSessionStatus{ObjectMeta: metav1.ObjectMeta{
		Namespace:       me.namespace,
		Name:            name,
		Labels:          map[string]string{labelNode: labelValue(me.node), labelPeer: labelValue(peer)},
		OwnerReferences: []metav1.OwnerReference{me.owner},
	}}
}
