package plan

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestElectFollowsMetalLBsOrder(t *testing.T) {
	nodes := []string{"node-a", "node-b", "node-c", "node-d"}
	for address, want := range map[string]string{
		"192.168.1.240":         "node-a node-d node-c node-b",
		"192.168.1.241":         "node-d node-c node-a node-b",
		"10.0.0.1":              "node-b node-a node-d node-c",
		"fc00:f853:ccd:e799::1": "node-d node-b node-a node-c",
	} {
		var order []string
		left := slices.Clone(nodes)
		for len(left) > 0 {
			e := electAmong(newHasher(), netip.MustParseAddr(address), left)
			order = append(order, e.Winner())
			left = slices.DeleteFunc(left, func(n string) bool { return n == e.Winner() })
		}
		if got := strings.Join(order, " "); got != want {
			t.Errorf("%s: order %s, want %s", address, got, want)
		}
	}
}

// naiveWinner says it the way the documentation does.
func naiveWinner(address netip.Addr, candidates []string) string {
	if len(candidates) == 0 {
		return ""
	}
	return slices.MinFunc(candidates, func(a, b string) int {
		x, y := sha256.Sum256([]byte(a+"#"+address.String())), sha256.Sum256([]byte(b+"#"+address.String()))
		return slices.Compare(x[:], y[:])
	})
}

func TestElectionResumed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e Election
		for range rapid.IntRange(1, 8).Draw(t, "rounds") {
			address := netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.1", "10.0.0.1", "fd00::1"}).Draw(t, "address"))
			candidates := rapid.SliceOfDistinct(rapid.StringMatching(`[a-e]{1,2}`), rapid.ID).Draw(t, "candidates")
			slices.Sort(candidates)
			e = elect(newHasher(), address, candidates, e)
			if want := naiveWinner(address, candidates); e.Winner() != want {
				t.Fatalf("winner %q, want %q", e.Winner(), want)
			}
		}
	})
}

func TestElectLongestNames(t *testing.T) {
	address := netip.MustParseAddr("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	for length := range 300 {
		names := []string{strings.Repeat("a", length) + "a", strings.Repeat("b", length) + "b", "short"}
		if got, want := electAmong(newHasher(), address, names).winner, naiveWinner(address, names); got != want {
			t.Errorf("with names of %d characters %.3s… wins, want %.3s…", length, got, want)
		}
	}
}

func TestHasherAgreesWithSum256(t *testing.T) {
	h := newHasher()
	rapid.Check(t, func(t *rapid.T) {
		address := netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))).Unmap()
		h.reset(address)
		for _, node := range rapid.SliceOfN(rapid.StringN(0, 80, 80), 1, 5).Draw(t, "nodes") {
			want := sha256.Sum256([]byte(node + "#" + address.String()))
			if got := h.sum(node); !slices.Equal(got, want[:]) {
				t.Fatalf("%q: %x, want %x", node+"#"+address.String(), got, want)
			}
		}
	})
	if !h.trusted {
		t.Error("the short way is not used: the encoding of crypto/sha256's state has changed")
	}
}

// hostile is a hash whose state is not laid out as expected.
type hostile struct{ hash.Hash }

func (hostile) AppendBinary(b []byte) ([]byte, error) { return append(b, make([]byte, 200)...), nil }

func TestHasherDoesNotTrustAnUnknownLayout(t *testing.T) {
	h := newHasher()
	h.state = hostile{sha256.New()}
	nodes := []string{"node-a", "node-b", "node-c", "node-d"}
	address := netip.MustParseAddr("192.168.1.240")
	if got := electAmong(h, address, nodes).winner; got != "node-a" || h.trusted {
		t.Errorf("winner %s, want node-a; trusted %v, want false", got, h.trusted)
	}
}

func TestElectManyInParallel(t *testing.T) {
	names := make([]string, 50)
	for i := range names {
		names[i] = fmt.Sprintf("node-%02d", i)
	}
	ballots := make([]Ballot, 301) // not a multiple of the workers
	for i := range ballots {
		ballots[i] = Ballot{address: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), candidates: names}
	}
	elections := make([]Election, len(ballots))
	Elect(ballots, elections)
	for i, b := range ballots {
		if want := naiveWinner(b.address, names); elections[i].Winner() != want {
			t.Fatalf("%s: winner %q, want %q", b.address, elections[i].Winner(), want)
		}
	}
}
