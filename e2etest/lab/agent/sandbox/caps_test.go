package sandbox

import (
	"strings"
	"testing"
)

func TestCapabilitiesFollowDropAndAdd(t *testing.T) {
	tests := []struct {
		name      string
		start     CapSet
		add, drop []string
		want      string
	}{
		{name: "nothing said keeps the runtime's default", start: DefaultCaps,
			want: "AUDIT_WRITE,CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,MKNOD,NET_BIND_SERVICE,NET_RAW,SETFCAP,SETGID,SETPCAP,SETUID,SYS_CHROOT"},
		{name: "a speaker drops all and takes raw sockets back", start: DefaultCaps, drop: []string{"ALL"}, add: []string{"NET_RAW"}, want: "NET_RAW"},
		{name: "the prefix and the case do not matter", start: DefaultCaps, drop: []string{"all"}, add: []string{"cap_net_raw", "CAP_NET_ADMIN"}, want: "NET_ADMIN,NET_RAW"},
		{name: "one dropped from the default", start: DefaultCaps &^ (DefaultCaps - 1), drop: []string{"CHOWN"}, want: ""},
		{name: "all added but one", start: 0, add: []string{"ALL"}, drop: []string{"SYS_ADMIN"},
			want: strings.ReplaceAll(AllCaps.String(), ",SYS_ADMIN", "")},
		{name: "dropped wins over added, as in a runtime", start: 0, add: []string{"KILL", "CHOWN"}, drop: []string{"KILL"}, want: "CHOWN"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.start.Adjust(tt.add, tt.drop)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want {
				t.Errorf("capabilities\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestUnknownCapabilityIsNamed(t *testing.T) {
	_, err := DefaultCaps.Adjust([]string{"NET_RAWW"}, nil)
	if err == nil || !strings.Contains(err.Error(), `"NET_RAWW" is not known`) {
		t.Errorf("error %v, want one that names NET_RAWW", err)
	}
}

func TestEveryCapabilityHasAName(t *testing.T) {
	for i, n := range capNames {
		if n == "" {
			t.Errorf("capability %d has no name", i)
		}
		if c, err := ParseCap("CAP_" + n); err != nil || c != 1<<i {
			t.Errorf("ParseCap(CAP_%s) = %x, %v; want bit %d", n, uint64(c), err, i)
		}
	}
}
