// Package nsnet makes network namespaces and the wires between them: named
// namespaces as ip(8) knows them, bridges, veth pairs, addresses and routes.
//
// It knows nothing of Kubernetes or of a lab's shape; the supervisor tells it what
// to build. Every namespace is worked on by one OS thread that lives inside it,
// and nothing here ever changes the namespace of another thread.
package nsnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir is where named network namespaces are mounted, as ip-netns(8) has it.
const Dir = "/run/netns"

// Namespace is a network namespace with a thread inside it.
//
// The thread is also the parent of every process started through Do: Linux sends
// a parent-death signal when the *thread* that forked goes away, so that thread
// has to live exactly as long as the namespace is held.
type Namespace struct {
	name string
	file *os.File
	work chan func()
	once sync.Once
}

// Create makes a named namespace and opens it. It fails if the name is taken.
func Create(name string) (*Namespace, error) {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of network namespaces: %w", err)
	}
	path := filepath.Join(Dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w", name, err)
	}
	f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare the network (this needs root): %w", err)
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		return unix.Mount(self, path, "", unix.MS_BIND, "")
	})
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("create network namespace %s: %w", name, err)
	}
	return Open(name)
}

// Open opens an existing named namespace.
func Open(name string) (*Namespace, error) {
	f, err := os.Open(filepath.Join(Dir, name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	return enter(name, f)
}

// Current holds the namespace the program runs in.
func Current() (*Namespace, error) {
	f, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open the program's own network namespace: %w", err)
	}
	return enter("", f)
}

// enter starts the thread of a namespace.
func enter(name string, f *os.File) (*Namespace, error) {
	n := &Namespace{name: name, file: f, work: make(chan func())}
	entered := make(chan error, 1)
	go ownThread(func() {
		if name != "" {
			if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
				entered <- fmt.Errorf("enter network namespace %s: %w", name, err)
				return
			}
		}
		entered <- nil
		for fn := range n.work {
			fn()
		}
	})
	if err := <-entered; err != nil {
		f.Close()
		return nil, err
	}
	return n, nil
}

// Name is the namespace's name below Dir; it is empty for the program's own.
func (n *Namespace) Name() string { return n.name }

// Do runs fn on the thread inside the namespace and returns its error.
func (n *Namespace) Do(fn func() error) error {
	done := make(chan error, 1)
	n.work <- func() { done <- fn() }
	return <-done
}

// Close ends the thread. Processes that were started with a parent-death signal
// through Do end with it. The named namespace itself stays until Delete.
func (n *Namespace) Close() {
	n.once.Do(func() {
		close(n.work)
		n.file.Close()
	})
}

// Sysctl writes settings such as "net.ipv4.ip_forward" = "1" of the namespace.
// Keys are separated by slashes where a part may itself contain a dot.
func (n *Namespace) Sysctl(settings map[string]string) error {
	return n.Do(func() error {
		for key, value := range settings {
			if !strings.Contains(key, "/") {
				key = strings.ReplaceAll(key, ".", "/")
			}
			if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644); err != nil {
				return fmt.Errorf("set %s=%s in %s: %w", key, value, n.name, err)
			}
		}
		return nil
	})
}

// Delete removes the name of a namespace. The kernel frees the namespace when its
// last process is gone too. A name that does not exist is not an error.
func Delete(name string) error {
	path := filepath.Join(Dir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// List returns the names of the existing namespaces that match.
func List(match func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if match(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// onThread runs fn on a thread of its own and waits for it.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go ownThread(func() { done <- fn() })
	return <-done
}

// ownThread runs fn on a thread that nobody else uses, before or after: the thread
// ends with the goroutine that calls this, because it is never unlocked.
//
// It must not be the program's first thread. That one cannot end, and its
// namespace is what /proc shows as the whole program's: a lab that is swept would
// take the program for one of its own.
func ownThread(fn func()) {
	runtime.LockOSThread()
	if unix.Gettid() != os.Getpid() {
		fn()
		return
	}
	// As long as this goroutine holds the first thread, another cannot get it.
	begun := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(begun)
		fn()
	}()
	<-begun
	runtime.UnlockOSThread()
}
