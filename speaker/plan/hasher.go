package plan

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"hash"
	"net/netip"
)

// hasher computes SHA-256 of "node#address" for many nodes and one address. A
// cluster of 100 nodes with 10,000 addresses asks a million times at start.
//
// Such a text nearly always fits in one block of SHA-256, and then the state
// after that block, padded by us as FIPS 180-4 section 5.1.1 says, is the
// digest. Reading the state costs half of what sha256.Sum256 does, which
// copies it and pads. Where the state lies in its encoding is not documented,
// so the first digest of each address is compared with Sum256; should they
// ever differ, this hasher uses Sum256 alone.
type hasher struct {
	state interface {
		hash.Hash
		encoding.BinaryAppender
	}
	trusted, checked bool

	block   [sha256.BlockSize]byte
	address []byte // "#address"
	// name is the length of the node name that block is laid out for, -1 if none.
	name int
	out  []byte
	long []byte
}

// stateAt is where the encoded state holds the eight words: behind "sha\x03".
const stateAt = 4

// longest is the longest text that fits in one block: its end marker takes a
// byte, its length eight.
const longest = sha256.BlockSize - 9

func newHasher() *hasher {
	h := &hasher{name: -1}
	if s, ok := sha256.New().(interface {
		hash.Hash
		encoding.BinaryAppender
	}); ok {
		h.state, h.trusted = s, true
	}
	return h
}

func (h *hasher) reset(address netip.Addr) {
	h.address = append(h.address[:0], '#')
	h.address = address.WithZone("").AppendTo(h.address)
	h.name, h.checked = -1, false
}

// sum returns the digest of node and the address; it is valid until the next
// call.
func (h *hasher) sum(node string) []byte {
	if !h.trusted || len(node)+len(h.address) > longest {
		return h.slow(node)
	}
	if len(node) != h.name {
		h.layOut(len(node))
	}
	copy(h.block[:], node)
	h.state.Reset()
	h.state.Write(h.block[:])
	out, err := h.state.AppendBinary(h.out[:0])
	h.out = out
	if err != nil || len(out) < stateAt+sha256.Size {
		h.trusted = false
		return h.slow(node)
	}
	d := out[stateAt : stateAt+sha256.Size]
	if !h.checked {
		h.checked = true
		if want := h.slow(node); !bytes.Equal(d, want) {
			h.trusted = false
			return want
		}
	}
	return d
}

// layOut writes everything but the name for names of one length.
func (h *hasher) layOut(name int) {
	clear(h.block[:])
	end := name + copy(h.block[name:], h.address)
	h.block[end] = 0x80
	binary.BigEndian.PutUint64(h.block[sha256.BlockSize-8:], uint64(end)*8)
	h.name = name
}

func (h *hasher) slow(node string) []byte {
	h.long = append(append(h.long[:0], node...), h.address...)
	d := sha256.Sum256(h.long)
	return append(h.long[:0], d[:]...)
}
