package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// devices are the ones every container gets, bound from the host.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// readOnlyProc and maskedProc are the parts of /proc that a container that is
// not privileged may not write, or not even see, as in a container runtime.
var (
	readOnlyProc = []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus"}
	maskedProc   = []string{"/proc/kcore", "/proc/keys", "/proc/timer_list"}
)

// buildRoot assembles the container's root and moves the process into it. It
// runs in the container's own mount namespace, so nothing of it is seen, or
// left behind, on the host.
func buildRoot(s *Spec) error {
	defer unix.Umask(unix.Umask(0))
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := s.Rootfs
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("mount the root on %s: %w", root, err)
	}
	steps := []func(*Spec, string) error{mountKernel, makeDevices, writeTree, bindMounts, hideKernel}
	for _, step := range steps {
		if err := step(s, root); err != nil {
			return err
		}
	}
	if err := pivot(root); err != nil {
		return err
	}
	if s.ReadOnlyRoot {
		if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

// mountKernel mounts /proc and /sys. They are mounted afresh, so that they show
// the container's own pid and network namespace.
func mountKernel(s *Spec, root string) error {
	const safe = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	sysFlags := uintptr(safe | unix.MS_RDONLY)
	if s.Privileged {
		sysFlags = safe
	}
	for _, m := range []struct {
		kind, target string
		flags        uintptr
	}{{"proc", "/proc", safe}, {"sysfs", "/sys", sysFlags}} {
		target := filepath.Join(root, m.target)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

func makeDevices(_ *Spec, root string) error {
	dev := filepath.Join(root, "dev")
	if err := os.Mkdir(dev, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dev, "tmpfs", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, name := range devices {
		if err := bind("/dev/"+name, filepath.Join(dev, name), false); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(to, filepath.Join(dev, link)); err != nil {
			return err
		}
	}
	shm := filepath.Join(dev, "shm")
	if err := os.Mkdir(shm, 0o777|os.ModeSticky); err != nil {
		return err
	}
	if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return nil
}

func writeTree(s *Spec, root string) error {
	for _, d := range s.Dirs {
		path := filepath.Join(root, d.Path)
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
		if err := os.Chmod(path, d.Mode); err != nil {
			return err
		}
	}
	for _, f := range s.Files {
		path := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(f.Content), f.Mode); err != nil {
			return err
		}
	}
	return nil
}

func bindMounts(s *Spec, root string) error {
	for _, m := range s.Mounts {
		target, err := inRoot(root, m.Target)
		if err != nil {
			return err
		}
		if err := bind(m.Source, target, m.ReadOnly); err != nil {
			return err
		}
	}
	return nil
}

// inRoot refuses a target that a symbolic link in the root leads out of it.
func inRoot(root, target string) (string, error) {
	clean := filepath.Join(root, filepath.Clean("/"+target))
	for dir := clean; len(dir) > len(root); dir = filepath.Dir(dir) {
		real, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if real != dir && !strings.HasPrefix(real, root+"/") {
			return "", fmt.Errorf("mount path %s leads out of the container by a symbolic link", target)
		}
		break
	}
	return clean, nil
}

func hideKernel(s *Spec, root string) error {
	if s.Privileged {
		return nil
	}
	for _, path := range readOnlyProc {
		path = filepath.Join(root, path)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := bind(path, path, true); err != nil {
			return err
		}
	}
	for _, path := range maskedProc {
		path = filepath.Join(root, path)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		if err := unix.Mount("/dev/null", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mask %s: %w", path, err)
		}
	}
	return nil
}

// bind mounts source on target, which it makes of the right kind when absent.
func bind(source, target string, readOnly bool) error {
	st, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	if err := makeTarget(target, st.IsDir()); err != nil {
		return fmt.Errorf("make mount point for %s: %w", source, err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	if !readOnly {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(target, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", target, err)
	}
	// A remount sets all flags, so those that the mount has must be repeated.
	keep := uintptr(fs.Flags) & (unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|keep, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

func makeTarget(target string, dir bool) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if dir {
		return os.MkdirAll(target, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
}

// pivot makes root the root. The old one is stacked under the new at the same
// place (pivot_root(2), "pivot_root(".", ".")"), then detached.
func pivot(root string) error {
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter the new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to the new root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the old root: %w", err)
	}
	return unix.Chdir("/")
}
