package bgp

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error codes of NOTIFICATION messages (RFC 4271, section 4.5), and the subcodes
// that are sent.
const (
	HeaderError      = 1
	OpenError        = 2
	UpdateError      = 3
	HoldTimerExpired = 4
	FSMError         = 5
	Cease            = 6

	NotSynchronized  = 1
	BadMessageLength = 2
	BadMessageType   = 3

	UnsupportedVersion  = 1
	BadPeerAS           = 2
	BadIdentifier       = 3
	UnsupportedOption   = 4
	UnacceptableHold    = 6
	UnsupportedCap      = 7 // RFC 5492
	UnexpectedInSent    = 1 // RFC 6608
	UnexpectedInConfirm = 2
	UnexpectedInUp      = 3

	AdminShutdown   = 2 // RFC 4486
	Deconfigured    = 3
	OtherConfig     = 6
	HardReset       = 9  // RFC 8538
	BFDDown         = 10 // RFC 9384
	maxShutdownText = 255
)

// Notification is a NOTIFICATION message: one of the peer's, or one to send.
type Notification struct {
	Code, Subcode uint8
	Data          []byte
}

var codeNames = map[uint8]string{
	HeaderError: "Message Header Error", OpenError: "OPEN Message Error", UpdateError: "UPDATE Message Error",
	HoldTimerExpired: "Hold Timer Expired", FSMError: "Finite State Machine Error", Cease: "Cease",
	7: "ROUTE-REFRESH Message Error", 8: "Send Hold Timer Expired",
}

var subcodeNames = map[[2]uint8]string{
	{1, 1}: "Connection Not Synchronized", {1, 2}: "Bad Message Length", {1, 3}: "Bad Message Type",
	{2, 1}: "Unsupported Version Number", {2, 2}: "Bad Peer AS", {2, 3}: "Bad BGP Identifier",
	{2, 4}: "Unsupported Optional Parameter", {2, 6}: "Unacceptable Hold Time", {2, 7}: "Unsupported Capability",
	{2, 11}: "Role Mismatch",
	{3, 1}:  "Malformed Attribute List", {3, 2}: "Unrecognized Well-known Attribute", {3, 3}: "Missing Well-known Attribute",
	{3, 4}: "Attribute Flags Error", {3, 5}: "Attribute Length Error", {3, 6}: "Invalid ORIGIN Attribute",
	{3, 8}: "Invalid NEXT_HOP Attribute", {3, 9}: "Optional Attribute Error", {3, 10}: "Invalid Network Field",
	{3, 11}: "Malformed AS_PATH",
	{5, 1}:  "Receive Unexpected Message in OpenSent State", {5, 2}: "Receive Unexpected Message in OpenConfirm State",
	{5, 3}: "Receive Unexpected Message in Established State",
	{6, 1}: "Maximum Number of Prefixes Reached", {6, 2}: "Administrative Shutdown", {6, 3}: "Peer De-configured",
	{6, 4}: "Administrative Reset", {6, 5}: "Connection Rejected", {6, 6}: "Other Configuration Change",
	{6, 7}: "Connection Collision Resolution", {6, 8}: "Out of Resources", {6, 9}: "Hard Reset", {6, 10}: "BFD Down",
}

// ParseNotification reads the body of a NOTIFICATION message, of two octets at
// least. A Hard Reset is unwrapped: it carries the true reason (RFC 8538,
// section 3.1).
func ParseNotification(body []byte) Notification {
	n := Notification{Code: body[0], Subcode: body[1], Data: body[2:]}
	if n.Code == Cease && n.Subcode == HardReset && len(n.Data) >= 2 {
		return Notification{Code: n.Data[0], Subcode: n.Data[1], Data: n.Data[2:]}
	}
	return n
}

// Append appends the whole message.
func (n *Notification) Append(b []byte) []byte {
	b = AppendHeader(b, NotificationMessage, 2+len(n.Data))
	return append(append(b, n.Code, n.Subcode), n.Data...)
}

// String names the error as the RFCs do, with the text that came along:
// Cease/Administrative Shutdown: "maintenance".
func (n *Notification) String() string {
	name, ok := codeNames[n.Code]
	if !ok {
		name = fmt.Sprintf("code %d", n.Code)
	}
	if sub, ok := subcodeNames[[2]uint8{n.Code, n.Subcode}]; ok {
		name += "/" + sub
	} else if n.Subcode != 0 {
		name += fmt.Sprintf("/subcode %d", n.Subcode)
	}
	if text := n.Text(); text != "" {
		name += fmt.Sprintf(": %q", text)
	}
	return name
}

// Text is what the sender says in words, without what a terminal should not see;
// "" if there is none: the shutdown communication of a Cease (RFC 9003), or a
// sentence that some speakers send with other errors.
func (n *Notification) Text() string {
	if n.Code != Cease || n.Subcode != 2 && n.Subcode != 4 || len(n.Data) == 0 {
		return sentence(n.Data)
	}
	size := int(n.Data[0])
	if size >= len(n.Data) {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(n.Data[1:1+size]))
}

// sentence is data if it can only be words: octets of a message that are wrong are
// the usual data, and are not readable or short.
func sentence(data []byte) string {
	if len(data) < 8 || len(data) > maxShutdownText || !strings.Contains(string(data), " ") {
		return ""
	}
	for _, c := range data {
		if c < ' ' || c > '~' {
			return ""
		}
	}
	return string(data)
}

// Shutdown is a Cease with a shutdown communication (RFC 9003).
func Shutdown(text string) *Notification {
	for len(text) > maxShutdownText || !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return &Notification{Code: Cease, Subcode: AdminShutdown, Data: append([]byte{byte(len(text))}, text...)}
}
