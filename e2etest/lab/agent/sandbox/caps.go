package sandbox

import (
	"fmt"
	"math/bits"
	"sort"
	"strings"

	"golang.org/x/sys/unix"
)

// CapSet is a set of Linux capabilities, one bit each.
type CapSet uint64

// capNames is indexed by the capability's number (capabilities(7)).
var capNames = [...]string{
	unix.CAP_CHOWN: "CHOWN", unix.CAP_DAC_OVERRIDE: "DAC_OVERRIDE", unix.CAP_DAC_READ_SEARCH: "DAC_READ_SEARCH",
	unix.CAP_FOWNER: "FOWNER", unix.CAP_FSETID: "FSETID", unix.CAP_KILL: "KILL", unix.CAP_SETGID: "SETGID",
	unix.CAP_SETUID: "SETUID", unix.CAP_SETPCAP: "SETPCAP", unix.CAP_LINUX_IMMUTABLE: "LINUX_IMMUTABLE",
	unix.CAP_NET_BIND_SERVICE: "NET_BIND_SERVICE", unix.CAP_NET_BROADCAST: "NET_BROADCAST",
	unix.CAP_NET_ADMIN: "NET_ADMIN", unix.CAP_NET_RAW: "NET_RAW", unix.CAP_IPC_LOCK: "IPC_LOCK",
	unix.CAP_IPC_OWNER: "IPC_OWNER", unix.CAP_SYS_MODULE: "SYS_MODULE", unix.CAP_SYS_RAWIO: "SYS_RAWIO",
	unix.CAP_SYS_CHROOT: "SYS_CHROOT", unix.CAP_SYS_PTRACE: "SYS_PTRACE", unix.CAP_SYS_PACCT: "SYS_PACCT",
	unix.CAP_SYS_ADMIN: "SYS_ADMIN", unix.CAP_SYS_BOOT: "SYS_BOOT", unix.CAP_SYS_NICE: "SYS_NICE",
	unix.CAP_SYS_RESOURCE: "SYS_RESOURCE", unix.CAP_SYS_TIME: "SYS_TIME", unix.CAP_SYS_TTY_CONFIG: "SYS_TTY_CONFIG",
	unix.CAP_MKNOD: "MKNOD", unix.CAP_LEASE: "LEASE", unix.CAP_AUDIT_WRITE: "AUDIT_WRITE",
	unix.CAP_AUDIT_CONTROL: "AUDIT_CONTROL", unix.CAP_SETFCAP: "SETFCAP", unix.CAP_MAC_OVERRIDE: "MAC_OVERRIDE",
	unix.CAP_MAC_ADMIN: "MAC_ADMIN", unix.CAP_SYSLOG: "SYSLOG", unix.CAP_WAKE_ALARM: "WAKE_ALARM",
	unix.CAP_BLOCK_SUSPEND: "BLOCK_SUSPEND", unix.CAP_AUDIT_READ: "AUDIT_READ", unix.CAP_PERFMON: "PERFMON",
	unix.CAP_BPF: "BPF", unix.CAP_CHECKPOINT_RESTORE: "CHECKPOINT_RESTORE",
}

// AllCaps is what a privileged container asks for.
const AllCaps CapSet = 1<<len(capNames) - 1

// DefaultCaps is what containerd gives a container whose security context says
// nothing.
const DefaultCaps CapSet = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL | 1<<unix.CAP_AUDIT_WRITE

// ParseCap reads one capability's name, with or without the CAP_ prefix; "ALL"
// is every capability.
func ParseCap(name string) (CapSet, error) {
	n := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
	if n == "ALL" {
		return AllCaps, nil
	}
	for i, known := range capNames {
		if known == n {
			return 1 << i, nil
		}
	}
	return 0, fmt.Errorf("capability %q is not known: expected a name of capabilities(7) or ALL", name)
}

// Adjust gives the set after a security context's drop and add. As in a CRI
// runtime, "ALL" is judged first on both sides, so that drop: [ALL], add:
// [NET_RAW] leaves NET_RAW only, and add: [ALL], drop: [NET_RAW] all but it.
func (s CapSet) Adjust(add, drop []string) (CapSet, error) {
	var addSet, dropSet CapSet
	for _, side := range []struct {
		names []string
		set   *CapSet
		all   CapSet
	}{{add, &addSet, AllCaps}, {drop, &dropSet, 0}} {
		for _, name := range side.names {
			c, err := ParseCap(name)
			if err != nil {
				return 0, err
			}
			if c == AllCaps {
				s = side.all
				continue
			}
			*side.set |= c
		}
	}
	return s&^dropSet | addSet&^dropSet, nil
}

// Has says whether capability number c is in the set.
func (s CapSet) Has(c int) bool { return s&(1<<c) != 0 }

// String lists the names, for logs and tests.
func (s CapSet) String() string {
	names := make([]string, 0, bits.OnesCount64(uint64(s)))
	for i, n := range capNames {
		if s.Has(i) {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return strings.Join(names, ",")
}

// boundingSet reads the calling thread's bounding set.
func boundingSet() CapSet {
	var s CapSet
	for c := range capNames {
		if ok, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && ok == 1 {
			s |= 1 << c
		}
	}
	return s
}
