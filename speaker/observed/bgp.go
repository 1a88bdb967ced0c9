package observed

import (
	"net/netip"
	"time"

	"github.com/heraldlb/herald/internal/reason"
)

// SessionState is where a BGP session is, in the words of RFC 4271, section
// 8.2.2, and the ones that come before a session: see Blocked and HeldDown.
type SessionState string

// The states.
const (
	Idle        SessionState = "Idle"
	Connect     SessionState = "Connect"
	Active      SessionState = "Active"
	OpenSent    SessionState = "OpenSent"
	OpenConfirm SessionState = "OpenConfirm"
	Established SessionState = "Established"
	// Blocked: the session cannot even be tried; Reason says why.
	Blocked SessionState = "Blocked"
	// HeldDown: BFD says that the peer is not there.
	HeldDown SessionState = "HeldDown"
)

// Session is what is known of one BGP session of this node.
type Session struct {
	// Peer is the name of the BGPPeer. The sessions of dynamic neighbours share it.
	Peer string
	// Dynamic is true for a neighbour that dialled from the peer's prefix: of
	// these there may be many, told apart by Remote, and of all others one.
	Dynamic bool
	// Remote is the peer's address, with a zone if it is link-local; Local is
	// ours. Each is invalid while it is not known.
	Remote, Local netip.Addr
	Port          uint16
	VRF           string
	State         SessionState
	// Since is when the state began.
	Since time.Time
	// Reason says why the session is not established; "" if it is.
	Reason reason.Reason
	// Message is the sentence for people: what the reason leaves open, such as
	// the text of the peer's notification.
	Message string
	// LastDown is how the session ended the last time; the zero value if it
	// never did.
	LastDown SessionDown
	// Watch is true when BFD may watch the peer: from the first time that the
	// session was established, but not while it is being opened. A router begins
	// with BFD, or begins anew, when the session comes up, and takes a BFD session
	// that was up before for one that fails.
	Watch bool

	// What both sides agreed on; zero values unless established.
	RemoteASN       uint32
	RemoteID        netip.Addr
	HoldTime        time.Duration
	KeepaliveTime   time.Duration
	IPv4, IPv6      bool // families that are exchanged
	GracefulRestart bool // both sides can
	// SentIPv4 and SentIPv6 count the prefixes that the peer was told.
	SentIPv4, SentIPv6 int
	// Received counts the prefixes that the peer sent, all of them refused.
	Received int
}

// SessionDown is the end of a session.
type SessionDown struct {
	At     time.Time
	Reason reason.Reason
	// Message holds the notification's name and the text that came with it.
	Message string
}

// BGP is what the BGP room truly reached, in the order of peers and addresses.
type BGP []Session

// BFDPeer names a BFD session: one pair of systems has one, whoever asks for
// it. Values are comparable.
type BFDPeer struct {
	// Remote is plain; its zone is in Interface.
	Remote netip.Addr
	// Local is invalid where the route to the peer decides.
	Local netip.Addr
	// Interface to use: needed for link-local peers, "" where the route decides.
	Interface string
	// VRF is the Linux VRF device, "" for none.
	VRF string
	// Multihop sessions follow RFC 5883.
	Multihop bool
}

// BFDState is the state of a session, by its value on the wire (RFC 5880,
// section 4.1).
type BFDState uint8

// The states.
const (
	BFDAdminDown BFDState = iota
	BFDDown
	BFDInit
	BFDUp
)

func (s BFDState) String() string {
	if s > BFDUp {
		return "Invalid"
	}
	return [...]string{"AdminDown", "Down", "Init", "Up"}[s]
}

// BFDSession is what is known of one BFD session.
type BFDSession struct {
	State BFDState
	Since time.Time
	// WasUp is true once the session has been up. Until then it says nothing of
	// the peer (RFC 5882, section 4.2).
	WasUp bool
	// Reason and Message say why the session is not up; "" if it is.
	Reason  reason.Reason
	Message string
	// RemoteAdminDown is true while the peer says that it switched BFD off,
	// which says nothing of its forwarding (RFC 5882, section 3.2).
	RemoteAdminDown bool
	// Local and Remote are the discriminators.
	Local, Remote uint32
	// Transmit is the interval at which control packets are sent, Detect the
	// detection time; both before jitter, zero while not known.
	Transmit, Detect time.Duration
}

// Failed tells whether the peer is to be taken for dead: the session was up,
// is no more, and the peer did not end it on purpose.
func (s BFDSession) Failed() bool {
	return s.WasUp && s.State != BFDUp && !s.RemoteAdminDown
}

// BFD is what the BFD room truly reached, for every session it was told to keep.
type BFD map[BFDPeer]BFDSession
