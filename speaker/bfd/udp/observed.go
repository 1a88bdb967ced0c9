package udp

import (
	"errors"
	"fmt"

	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/bfd"
	"github.com/heraldlb/herald/speaker/observed"
)

// errTTL refuses packets that came too far.
var errTTL = errors.New("packet came through more routers than allowed: its TTL is too low")

// observed describes a session.
func (s *session) observed() observed.BFDSession {
	if s.bfd == nil {
		o := observed.BFDSession{State: bfd.Down, Since: s.begun, Reason: reason.BFDNeverUp, Message: "the session is about to start"}
		if s.trouble != nil {
			o.Reason, o.Message = troubleReason(s.trouble), s.trouble.Error()
		}
		return o
	}
	st := s.bfd.Status()
	o := observed.BFDSession{
		State: st.State, Since: st.Since, WasUp: st.WasUp, RemoteAdminDown: st.RemoteLeft,
		Local: st.Local, Remote: st.Remote, Transmit: st.Transmit, Detect: st.Detect,
	}
	o.Reason, o.Message = s.why(st)
	return o
}

// why says why a session is not up.
func (s *session) why(st bfd.Status) (reason.Reason, string) {
	switch {
	case st.State == bfd.Up:
		return "", ""
	case st.RemoteLeft:
		return reason.BFDAdminDown, "the peer says: " + st.RemoteDiag.String()
	case s.trouble != nil:
		return troubleReason(s.trouble), s.trouble.Error()
	case !st.WasUp:
		return reason.BFDNeverUp, s.silence(st)
	case st.Diag == bfd.DiagEchoFailed:
		return reason.BFDEchoFailed, fmt.Sprintf("%d echo packets in a row did not come back", s.params.DetectMultiplier)
	case st.Diag == bfd.DiagNeighborDown:
		return reason.BFDNeighborSignaledDown, "the peer says: " + st.RemoteDiag.String()
	}
	return reason.BFDDetectionTimeExpired, s.silence(st)
}

// silence says what is heard of the peer at present.
func (s *session) silence(st bfd.Status) string {
	switch {
	case st.Remote != 0 && st.Held > 0:
		return fmt.Sprintf("we stay down for %s; the peer is %s", st.Held, st.RemoteState)
	case st.Remote != 0:
		return fmt.Sprintf("we are %s, the peer is %s", st.State, st.RemoteState)
	case s.refusals > 0:
		return fmt.Sprintf("%d packets of the peer were refused; the last one: %v", s.refusals, s.refusal)
	case s.params.Passive:
		return "nothing is heard of the peer; the session is passive and waits for its first packet"
	}
	return "nothing is heard of the peer"
}

func troubleReason(err error) reason.Reason {
	if errors.Is(err, errPortInUse) {
		return reason.BFDPortInUse
	}
	return reason.BFDSocketFailed
}
