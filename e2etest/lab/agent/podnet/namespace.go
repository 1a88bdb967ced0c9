package podnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// podSysctls are set in every pod: no waiting for addresses, no listening to
// router advertisements, and what containerd allows a user that is not root.
var podSysctls = map[string]string{
	"net.ipv6.conf.all.accept_dad":        "0",
	"net.ipv6.conf.default.accept_dad":    "0",
	"net.ipv6.conf.all.accept_ra":         "0",
	"net.ipv6.conf.default.accept_ra":     "0",
	"net.ipv4.ip_unprivileged_port_start": "0",
	"net.ipv4.ping_group_range":           "0 2147483647",
}

// newNamespace makes a network namespace and sets the sysctls in it.
func newNamespace(sysctls map[string]string) (*os.File, error) {
	type result struct {
		ns  *os.File
		err error
	}
	c := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			c <- result{err: err}
			return
		}
		defer home.Close()
		ns, err := inNewNamespace(sysctls)
		if e := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); e != nil {
			// The thread stays locked and so ends here, with its namespace.
			c <- result{ns, errors.Join(err, fmt.Errorf("return to the node's namespace: %w", e))}
			return
		}
		runtime.UnlockOSThread()
		c <- result{ns, err}
	}()
	r := <-c
	if r.err != nil && r.ns != nil {
		r.ns.Close()
		r.ns = nil
	}
	return r.ns, r.err
}

// inNewNamespace runs on a locked thread and leaves it in the new namespace.
func inNewNamespace(sysctls map[string]string) (*os.File, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the new network namespace: %w", err)
	}
	for _, set := range []map[string]string{podSysctls, sysctls} {
		for name, value := range set {
			if !strings.HasPrefix(name, "net.") {
				return ns, fmt.Errorf("sysctl %s: only net.* sysctls belong to a pod here", name)
			}
			if err := writeSysctl(strings.ReplaceAll(name, ".", "/"), value); err != nil {
				return ns, err
			}
		}
	}
	return ns, nil
}

func writeSysctl(path, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set a sysctl: %w", err)
	}
	return nil
}
