package podnet

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPoolTakesTurns(t *testing.T) {
	p := newPool(netip.MustParsePrefix("10.1.0.0/29"))
	var got []string
	take := func() {
		a, err := p.take()
		if err != nil {
			got = append(got, err.Error())
			return
		}
		got = append(got, a.String())
	}
	take()
	take()
	p.give(netip.MustParseAddr("10.1.0.1"))
	for range 5 {
		take()
	}
	p.give(netip.MustParseAddr("10.1.0.3"))
	take()
	want := []string{"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.1",
		"10.1.0.3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
	take()
	if want := "pod CIDR 10.1.0.0/29 has no free address: 6 pods hold one"; got[len(got)-1] != want {
		t.Errorf("full pool says %q, want %q", got[len(got)-1], want)
	}
}

func TestPoolOfIPv6StartsAtOne(t *testing.T) {
	p := newPool(netip.MustParsePrefix("fd00:1:2::/64"))
	if a, err := p.take(); err != nil || a.String() != "fd00:1:2::1" {
		t.Errorf("first address %v, %v; want fd00:1:2::1", a, err)
	}
}
