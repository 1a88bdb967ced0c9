package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Spec is everything the init needs to become the container's process. It is
// written as JSON to the init, so it holds plain values only.
type Spec struct {
	// Rootfs is an empty directory of the host; the container's root is a
	// tmpfs mounted over it, inside the container's mount namespace only.
	Rootfs string `json:"rootfs"`
	// Hostname is set in the container's own uts namespace; empty keeps the host's.
	Hostname string `json:"hostname,omitempty"`
	// HostPID keeps the process in the agent's pid namespace.
	HostPID bool `json:"hostPID,omitempty"`

	// Netns says that the init finds a network namespace to join among its
	// file descriptors; Start sets it.
	Netns bool `json:"netns,omitempty"`

	// Dirs are made in the root, in order.
	Dirs []Dir `json:"dirs,omitempty"`
	// Files are written into the root (passwd, hosts, resolv.conf).
	Files []File `json:"files,omitempty"`
	// Mounts are bound into the root, in order.
	Mounts []Mount `json:"mounts,omitempty"`
	// ReadOnlyRoot makes the root, but not the mounts in it, read-only.
	ReadOnlyRoot bool `json:"readOnlyRoot,omitempty"`
	// Privileged leaves /proc and /sys writable.
	Privileged bool `json:"privileged,omitempty"`

	Identity

	// Argv is the command; its first word is looked up in the root by PATH.
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Cwd  string   `json:"cwd,omitempty"`
}

// Identity is who a process is: user, groups, and what it may do.
type Identity struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
	// Caps goes to the bounding, permitted and effective set, as runtimes do.
	// A process that is not root loses the last two when it executes a binary
	// without file capabilities; that is the kernel's rule and is kept.
	Caps CapSet `json:"caps"`
	// NoNewPrivs is the other name of allowPrivilegeEscalation: false.
	NoNewPrivs bool `json:"noNewPrivs,omitempty"`
}

// Dir is a directory of the container's root.
type Dir struct {
	Path string      `json:"path"`
	Mode os.FileMode `json:"mode"`
}

// File is a small file of the container's root.
type File struct {
	Path    string      `json:"path"`
	Content string      `json:"content"`
	Mode    os.FileMode `json:"mode"`
}

// Mount binds a file or directory of the host into the container.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
}

// execSpec asks for one more process in a container that runs already.
type execSpec struct {
	PID int `json:"pid"`
	Identity
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	Cwd  string   `json:"cwd,omitempty"`
}

func readJSON(f *os.File, into any) error {
	b, err := io.ReadAll(f)
	if err != nil {
		return fmt.Errorf("read the container's description: %w", err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("parse the container's description: %w", err)
	}
	return nil
}
