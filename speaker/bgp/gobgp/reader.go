package gobgp

import (
	"io"

	"github.com/heraldlb/herald/speaker/bgp"
)

// reader reads whole messages.
type reader struct {
	from   io.Reader
	header [bgp.HeaderLen]byte
	body   []byte
}

func newReader(from io.Reader) *reader { return &reader{from: from, body: make([]byte, bgp.MaxLen)} }

// message is one message; body is valid until the next is read.
type message struct {
	kind bgp.MessageType
	body []byte
}

// next reads a message. An error of type *bgp.Notification is the peer's fault.
func (r *reader) next(extended bool) (message, error) {
	if _, err := io.ReadFull(r.from, r.header[:]); err != nil {
		return message{}, err
	}
	size, kind, refusal := bgp.ParseHeader(r.header[:], extended)
	if refusal != nil {
		return message{}, &refused{refusal}
	}
	size -= bgp.HeaderLen
	if size > len(r.body) {
		r.body = make([]byte, bgp.MaxExtendedLen)
	}
	if _, err := io.ReadFull(r.from, r.body[:size]); err != nil {
		return message{}, err
	}
	return message{kind, r.body[:size]}, nil
}

// refused is the error that a message is answered with a NOTIFICATION.
type refused struct{ with *bgp.Notification }

func (r *refused) Error() string { return r.with.String() }
