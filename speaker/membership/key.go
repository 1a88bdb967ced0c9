package membership

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// SecretFile is the file of the mounted secret that holds the text, the same
// name as MetalLB's.
const SecretFile = "secretkey"

// errNoSecret says that there is no text to make a key of.
var errNoSecret = errors.New("the gossip secret is missing or empty")

// SecretIn reads the secret from a mounted directory, anew at each call: the
// kubelet replaces the files by swapping a symbolic link.
func SecretIn(dir string) func() (string, error) {
	return func() (string, error) {
		b, err := os.ReadFile(filepath.Join(dir, SecretFile))
		if errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("%w: %s does not exist", errNoSecret, filepath.Join(dir, SecretFile))
		}
		if err != nil {
			return "", fmt.Errorf("read the gossip secret: %w", err)
		}
		if strings.TrimSpace(string(b)) == "" {
			return "", fmt.Errorf("%w: %s is empty", errNoSecret, filepath.Join(dir, SecretFile))
		}
		return string(b), nil
	}
}

// The derivation is part of the wire protocol: changing it splits a ring in
// which old and new speakers meet.
const (
	keySalt   = "heraldlb.io/membership/v1"
	keyRounds = 600_000
	keySize   = 32 // AES-256
)

// key is an encryption key of the ring with its public name.
type key struct {
	ID    keyID
	Bytes []byte
}

// keyID names a key in metadata and logs without telling it.
type keyID [4]byte

func (k keyID) String() string { return fmt.Sprintf("%x", k[:]) }

// derive stretches the secret's text into a key.
func derive(text string) (key, error) {
	b, err := pbkdf2.Key(sha256.New, text, []byte(keySalt), keyRounds, keySize)
	if err != nil {
		return key{}, fmt.Errorf("derive the gossip key: %w", err)
	}
	return newKey(b), nil
}

func newKey(b []byte) key {
	h := hmac.New(sha256.New, b)
	h.Write([]byte("key id"))
	return key{ID: keyID(h.Sum(nil)), Bytes: b}
}

// rotation is what decides on the next step of a change of keys.
type rotation struct {
	// installed are the keys in use, the one for sending first.
	installed []keyID
	// wanted is the key of the secret as it is now.
	wanted keyID
	// others are the keys of the other members of the ring, each sending first.
	others [][]keyID
	// since is when the last step was taken.
	since time.Time
}

type step int

const (
	stepNone   step = iota
	stepAdd         // accept the wanted key
	stepUse         // send with it
	stepRemove      // accept nothing else
)

// next returns the step to take now. A key is accepted before it is used and
// used by all before the others are dropped; a member that lags delays a step
// by at most within.
func (r rotation) next(now time.Time, within time.Duration) step {
	late := now.Sub(r.since) >= within
	switch {
	case !slices.Contains(r.installed, r.wanted):
		return stepAdd
	case r.installed[0] != r.wanted:
		if late || r.all(func(keys []keyID) bool { return slices.Contains(keys, r.wanted) }) {
			return stepUse
		}
	case len(r.installed) > 1:
		if late || r.all(func(keys []keyID) bool { return len(keys) > 0 && keys[0] == r.wanted }) {
			return stepRemove
		}
	}
	return stepNone
}

func (r rotation) all(ok func([]keyID) bool) bool {
	for _, keys := range r.others {
		if !ok(keys) {
			return false
		}
	}
	return true
}
