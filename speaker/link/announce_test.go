package link

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/heraldlb/herald/speaker/observed"
)

const usualExclude = `
announcedInterfacesToExclude: ["^docker.*", "^cbr.*", "^veth.*", "^lo$", "^cali.*"]
`

func TestAnnouncingInterfaces(t *testing.T) {
	exclude, err := ParseExclude([]byte(usualExclude))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		link observed.Link
		may  bool
	}{
		"a physical interface":            {observed.Link{Name: "eth0"}, true},
		"a VLAN interface on a bond":      {observed.Link{Name: "bond0.100", Kind: "vlan"}, true},
		"a bond":                          {observed.Link{Name: "bond0", Kind: "bond"}, true},
		"a bridge":                        {observed.Link{Name: "br0", Kind: "bridge"}, true},
		"a macvlan interface":             {observed.Link{Name: "mv0", Kind: "macvlan"}, true},
		"a member of a VRF":               {observed.Link{Name: "eth1", Master: 9, MasterKind: "vrf"}, true},
		"a VLAN interface in a VRF":       {observed.Link{Name: "eth1.7", Kind: "vlan", Master: 9, MasterKind: "vrf"}, true},
		"the VRF itself":                  {observed.Link{Name: "red", Kind: "vrf"}, false},
		"a slave of a bond":               {observed.Link{Name: "eth0", Master: 5, MasterKind: "bond"}, false},
		"a port of a bridge":              {observed.Link{Name: "eth0", Master: 5, MasterKind: "bridge"}, false},
		"a part of something unknown":     {observed.Link{Name: "eth0", Master: 5}, false},
		"the loopback":                    {observed.Link{Name: "loop", Loopback: true}, false},
		"a tunnel without ARP":            {observed.Link{Name: "wg0", NoARP: true}, false},
		"a pod's end":                     {observed.Link{Name: "cali1234", Kind: "veth"}, false},
		"an excluded name":                {observed.Link{Name: "docker0", Kind: "bridge"}, false},
		"a name that only begins like lo": {observed.Link{Name: "lan0"}, true},
		"an interface that is down":       {observed.Link{Name: "eth3", Up: false}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := len(Announcing(observed.Links{test.link}, exclude)) == 1; got != test.may {
				t.Errorf("may announce: got %v, want %v", got, test.may)
			}
		})
	}
}

func TestParseExclude(t *testing.T) {
	for name, test := range map[string]struct {
		file     string
		excluded []string
		may      []string
		errs     []string
		lost     bool // nothing of the file can be used
	}{
		"an empty file excludes nothing": {"", nil, []string{"lo", "docker0"}, nil, false},
		"patterns are searched anywhere": {
			`announcedInterfacesToExclude: [ock]`, []string{"docker0", "rock"}, []string{"eth0"}, nil, false,
		},
		"a wrong pattern harms only itself": {
			`announcedInterfacesToExclude: ["^docker", "eth[", "^lo$"]`,
			[]string{"docker0", "lo"}, []string{"eth0"},
			[]string{`announcedInterfacesToExclude[1]`, `"eth["`, "not a regular expression"}, false,
		},
		"a wrong key is named": {
			`interfacesToExclude: ["^docker"]`, nil, []string{"docker0"},
			[]string{"announcedInterfacesToExclude", "interfacesToExclude"}, true,
		},
		"a word where a list belongs": {
			`announcedInterfacesToExclude: docker`, nil, []string{"docker0"}, []string{"list of regular expressions"}, true,
		},
		"text that is no YAML": {"announcedInterfacesToExclude: [", nil, []string{"docker0"}, []string{"list of regular expressions"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := ParseExclude([]byte(test.file))
			for _, name := range test.excluded {
				if !e.Matches(name) {
					t.Errorf("%s is not excluded", name)
				}
			}
			for _, name := range test.may {
				if e.Matches(name) {
					t.Errorf("%s is excluded", name)
				}
			}
			if got := errors.Is(err, ErrUnreadable); got != test.lost {
				t.Errorf("err = %v, want that the whole file is lost: %v", err, test.lost)
			}
			if (err != nil) != (test.errs != nil) {
				t.Fatalf("err = %v, want one: %v", err, test.errs != nil)
			}
			for _, want := range test.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestInterfacesForTheOtherMembers(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	mac, local := net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("fe80::1")
	both := func(index int, name string, change func(*observed.Link)) observed.Link {
		l := observed.Link{Index: index, Name: name, MAC: mac, Up: true, Carrier: true, Broadcast: true, Multicast: true, LinkLocal: local}
		change(&l)
		return l
	}
	got := Interfaces(observed.Links{
		both(2, "eth1", func(l *observed.Link) { l.Prefixes = prefixes }),
		both(3, "eth0", func(l *observed.Link) { l.Carrier = false }),
		both(4, "eth2", func(l *observed.Link) { l.Up = false }),
		both(5, "no-broadcast", func(l *observed.Link) { l.Broadcast = false }),
		both(6, "no-arp", func(l *observed.Link) { l.NoARP = true }),
		both(7, "no-multicast", func(l *observed.Link) { l.Multicast = false }),
		both(8, "no-link-local", func(l *observed.Link) { l.LinkLocal = netip.Addr{} }),
		both(9, "tunnel", func(l *observed.Link) { l.MAC = net.HardwareAddr{192, 0, 2, 1} }),
		both(10, "blank", func(l *observed.Link) { l.MAC = make(net.HardwareAddr, 6) }),
	})
	want := []observed.Interface{
		{Name: "blank", Carrier: true},
		{Name: "eth0"},
		{Name: "eth1", Prefixes: prefixes, Carrier: true, IPv4: true, IPv6: true},
		{Name: "eth2"},
		{Name: "no-arp", Carrier: true, IPv6: true},
		{Name: "no-broadcast", Carrier: true, IPv6: true},
		{Name: "no-link-local", Carrier: true, IPv4: true},
		{Name: "no-multicast", Carrier: true, IPv4: true},
		{Name: "tunnel", Carrier: true},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Errorf("interfaces (-want +got):\n%s", diff)
	}
}
