package membership

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The derivation is part of the wire protocol. The figures are those of another
// implementation of RFC 8018's PBKDF2.
func TestTheKeyOfAGivenSecretNeverChanges(t *testing.T) {
	k, err := derive("correct horse battery staple")
	if err != nil {
		t.Fatal(err)
	}
	const want = "d0d37a6fb2aac5b74c6a05db242274a53a875b5c17e7ac339414bea5e1516611"
	if got := hex.EncodeToString(k.Bytes); got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	if k.ID.String() != "71bdd1fa" {
		t.Errorf("id %s", k.ID)
	}
	if strings.Contains(hex.EncodeToString(k.Bytes), k.ID.String()) {
		t.Error("the public id is a part of the key")
	}
}

func TestSecretIn(t *testing.T) {
	dir := t.TempDir()
	read := SecretIn(dir)
	if _, err := read(); !errors.Is(err, errNoSecret) || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("no file: %v", err)
	}
	file := filepath.Join(dir, SecretFile)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(" \n")
	if _, err := read(); !errors.Is(err, errNoSecret) || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("blank file: %v", err)
	}
	write("s3cret")
	if got, err := read(); got != "s3cret" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	// A kubelet's way to replace it: the name leads through a link that is swapped.
	for _, v := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, v, SecretFile), []byte("v"+v), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, "tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("1")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("..data/"+SecretFile, file); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"1", "2"} {
		if v == "2" {
			swap(v)
		}
		if got, err := read(); got != "v"+v || err != nil {
			t.Errorf("after the swap to %s: %q, %v", v, got, err)
		}
	}
}

func TestRotation(t *testing.T) {
	old, new, third := keyID{1}, keyID{2}, keyID{3}
	t0 := time.Unix(1000, 0)
	within := time.Minute
	for _, tt := range []struct {
		name      string
		installed []keyID
		others    [][]keyID
		after     time.Duration
		want      step
	}{
		{"nothing changes", []keyID{new}, [][]keyID{{new}}, time.Hour, stepNone},
		{"a new secret is accepted at once", []keyID{old}, [][]keyID{{old}}, 0, stepAdd},
		{"not used while a member does not know it", []keyID{old, new}, [][]keyID{{old, new}, {old}}, time.Second, stepNone},
		{"used as soon as all know it", []keyID{old, new}, [][]keyID{{old, new}, {new, old}}, time.Second, stepUse},
		{"used at once by a lone node", []keyID{old, new}, nil, 0, stepUse},
		{"used at last when a member never learns it", []keyID{old, new}, [][]keyID{{old}}, time.Minute, stepUse},
		{"a member of another kind, without keys, delays but does not stop it", []keyID{old, new}, [][]keyID{nil}, time.Second, stepNone},
		{"the old is kept while a member sends with it", []keyID{new, old}, [][]keyID{{new, old}, {old, new}}, time.Second, stepNone},
		{"the old is dropped when all send with the new", []keyID{new, old}, [][]keyID{{new, old}, {new}}, time.Second, stepRemove},
		{"the old is dropped at last", []keyID{new, old}, [][]keyID{{old, new}}, time.Minute, stepRemove},
		{"a second change in the middle of one", []keyID{old, third}, [][]keyID{{old, third}}, 0, stepAdd},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rotation{installed: tt.installed, wanted: new, others: tt.others, since: t0}
			if got := r.next(t0.Add(tt.after), within); got != tt.want {
				t.Errorf("step %d, want %d", got, tt.want)
			}
		})
	}
}

func BenchmarkDerive(b *testing.B) {
	for b.Loop() {
		if _, err := derive("abcdefghijklmnopqrstuv"); err != nil {
			b.Fatal(err)
		}
	}
}
