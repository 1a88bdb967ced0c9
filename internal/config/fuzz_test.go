package config_test

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/config"
	"github.com/heraldlb/herald/internal/config/configtest"
)

// FuzzCompile feeds objects as JSON, also such as no API server would store.
func FuzzCompile(f *testing.F) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		story, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range story.Files {
			if part.Name == "objects.yaml" {
				seed, err := json.Marshal(configtest.Objects(f, string(part.Data)))
				if err != nil {
					f.Fatal(err)
				}
				f.Add(seed)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o config.Objects
		if json.Unmarshal(data, &o) != nil {
			return
		}
		s, problems := config.Compile(o)
		checkPromises(t, s)
		again, same := config.Compile(o)
		if !again.Equal(s) || len(same) != len(problems) {
			t.Fatal("compiling twice gives two results")
		}
	})
}

// FuzzAddressRange feeds one entry of a pool.
func FuzzAddressRange(f *testing.F) {
	for _, seed := range []string{
		"10.0.0.0/24", "10.0.0.5/24", "10.0.0.0/024", "192.168.9.1-192.168.9.5", " 10.0.0.1 - 10.0.0.1 ",
		"::ffff:10.0.0.0/120", "::ffff:10.0.0.1-::ffff:10.0.0.9", "::ffff:0:0/90", "2001:db8::/32", "::/0", "0.0.0.0/0",
		"2001:db8::1-2001:db8:ffff::", "10.0.0.1-2001:db8::1", "10.0.0.2-10.0.0.1", "10.0.0.1", "fe80::1%eth0/64",
		"0.0.0.0-255.255.255.255", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "a-b-c", "-", "/", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var pool v1beta1.IPAddressPool
		pool.Name = "p"
		pool.Spec.Addresses = []v1beta1.AddressRange{v1beta1.AddressRange(text)}
		s, problems := config.Compile(config.Objects{Pools: []v1beta1.IPAddressPool{pool}})
		p := s.Pool("p")
		if sound := len(p.Prefixes) > 0; sound == p.Incomplete || sound == (len(problems) > 0) {
			t.Fatalf("%q: %d prefixes, incomplete %t, problems %v", text, len(p.Prefixes), p.Incomplete, problems)
		}
		checkPromises(t, s)
		for i, prefix := range p.Prefixes {
			if i > 0 && p.Prefixes[i-1].Addr().Compare(prefix.Addr()) >= 0 {
				t.Fatalf("%q: %v is not ascending", text, p.Prefixes)
			}
			for _, a := range []netip.Addr{prefix.Addr(), config.Last(prefix)} {
				if s.PoolOf([]netip.Addr{a}, "") != p {
					t.Fatalf("%q: %s of %s is not found", text, a, prefix)
				}
			}
		}
	})
}
