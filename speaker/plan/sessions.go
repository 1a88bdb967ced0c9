package plan

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/reason"
	"github.com/heraldlb/herald/speaker/desired"
)

// The kind of Secret that holds a key, and its entry: what MetalLB's users have.
const (
	secretType = "kubernetes.io/basic-auth"
	secretKey  = "password"
)

// The longest keys: Linux takes 80 bytes for TCP MD5, RFC 5880 section 4.4 has
// room for 20.
const (
	longestMD5Key = 80
	longestBFDKey = 20
)

// A Secret is what became of one that the configuration names.
type Secret struct {
	// Key is what it holds; it is never logged.
	Key string
	// Refused says why it holds nothing, "" if it does, and Message says it in
	// a sentence.
	Refused reason.Reason
	Message string
}

// ReadSecret returns the key that a Secret of that type and content holds.
func ReadSecret(kind string, data map[string][]byte) Secret {
	key, ok := data[secretKey]
	switch {
	case kind != secretType:
		return Secret{Refused: reason.SecretInvalid, Message: fmt.Sprintf("it is of type %q: expected %s", kind, secretType)}
	case !ok:
		return Secret{Refused: reason.SecretInvalid, Message: fmt.Sprintf("it has no key %q", secretKey)}
	case len(key) == 0:
		return Secret{Refused: reason.SecretInvalid, Message: fmt.Sprintf("its key %q is empty", secretKey)}
	}
	return Secret{Key: string(key)}
}

// Secrets are the Secrets that exist, by name.
type Secrets map[string]Secret

// read returns a key of at most so many bytes, or what is wrong with it.
func (s Secrets) read(name string, longest int) (key string, r reason.Reason, why string) {
	got, ok := s[name]
	switch {
	case !ok:
		return "", reason.SecretMissing, fmt.Sprintf("Secret %s does not exist.", name)
	case got.Refused != "":
		return "", got.Refused, fmt.Sprintf("Secret %s: %s.", name, got.Message)
	case len(got.Key) > longest:
		return "", reason.SecretInvalid, fmt.Sprintf("Secret %s holds a key of %d bytes: expected at most %d.", name, len(got.Key), longest)
	}
	return got.Key, "", ""
}

// Site is what the sessions of a node depend on beside the configuration.
type Site struct {
	Node   string
	Labels map[string]string
	// Addresses are the node's internal addresses, as its object lists them.
	Addresses []netip.Addr
	Secrets   Secrets
}

// Sessions returns the sessions that a node keeps, in the order of the peers'
// names, and which peers it cannot have one with, and why.
func Sessions(snap *config.Snapshot, at Site) ([]desired.Session, []desired.Refusal) {
	if snap == nil {
		return nil, nil
	}
	var sessions []desired.Session
	var refused []desired.Refusal
	id := routerID(at)
	for _, p := range peersOf(snap, at.Labels) {
		s := desired.Session{Peer: p, Key: p.Password, ID: id}
		if p.PasswordSecret != "" {
			key, r, why := at.Secrets.read(p.PasswordSecret, longestMD5Key)
			if r != "" {
				refused = append(refused, desired.Refusal{Peer: p.Name, Reason: r, Message: why})
				continue
			}
			s.Key = key
		}
		if p.RouterID.IsValid() {
			s.ID = p.RouterID
		}
		f := carried(p)
		s.IPv4, s.IPv6 = f&ipv4 != 0, f&ipv6 != 0
		sessions = append(sessions, s)
	}
	return sessions, refused
}

// peersOf are the peers of a node, in name order.
func peersOf(snap *config.Snapshot, node labels.Set) (peers []*config.Peer) {
	for _, p := range snap.Peers {
		if config.Matches(p.NodeSelectors, node) {
			peers = append(peers, p)
		}
	}
	return peers
}

// carried are the families of the prefixes that the session with p carries: that
// of the session's own addresses, or both.
func carried(p *config.Peer) families {
	switch {
	case p.DualStack || p.Interface != "":
		return allFamilies
	case p.Prefix.IsValid():
		return familiesThat(p.Prefix.Addr().Is4(), p.Prefix.Addr().Is6())
	}
	return familiesThat(p.Address.Is4(), p.Address.Is6())
}

// routerID is the BGP identifier of a node whose peers do not name one: its
// first IPv4 address or, if it has none, a number that its name gives. RFC 6286
// asks for nothing but that it is not zero and unique in the AS.
func routerID(at Site) netip.Addr {
	for _, a := range at.Addresses {
		if a = a.Unmap(); a.Is4() && !a.IsUnspecified() {
			return a
		}
	}
	var octets [4]byte
	binary.LittleEndian.PutUint32(octets[:], max(1, crc32.ChecksumIEEE([]byte(at.Node))))
	return netip.AddrFrom4(octets)
}
