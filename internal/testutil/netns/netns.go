// Package netns gives tests network namespaces of their own.
//
// A test binary that needs them calls Main from its TestMain: it then runs as a
// child in a fresh network namespace, all of its threads, so that code under
// test opens its sockets there as a daemon would. Inside, New makes further
// namespaces to be the clients and routers of a test; each lives exactly as long
// as a helper process that ends with the test, so nothing is left behind, not
// even after a crash.
//
// It is for tests only and needs root.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// inside marks the child that Main has started.
	inside = "HERALD_TEST_NETNS"
	// commandTime bounds every command, processLife what runs beside a test. The
	// longest benchmark measures for ten minutes.
	commandTime = 30 * time.Second
	processLife = 15 * time.Minute
)

// Main runs the tests of m in a network namespace of their own and returns the
// exit status: func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }.
func Main(m *testing.M) int {
	if os.Getenv(inside) != "" {
		return m.Run()
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests make network namespaces, so they need root")
		return 1
	}
	// The parent's death signal is bound to the thread that forks.
	runtime.LockOSThread()
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), inside+"=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := child.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "run the tests in a network namespace: %v\n", err)
		return 1
	}
	return 0
}

// An NS is a network namespace.
type NS struct {
	// pid is a process that lives in it.
	pid int
}

// Self is the namespace that the tests run in. It is the machine's own, and the
// test ends, unless Main started them.
func Self(t testing.TB) *NS {
	t.Helper()
	if os.Getenv(inside) == "" {
		t.Fatal("the test does not run in a namespace of its own: its package's TestMain must call netns.Main")
	}
	return &NS{pid: os.Getpid()}
}

// New makes a namespace, with its loopback up, that is gone after the test.
func New(t testing.TB) *NS {
	t.Helper()
	Self(t)
	// The holder waits for the end of its input, which comes when the test
	// closes it and also when this process dies.
	holder := exec.Command("cat")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	input, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		_ = input.Close()
		_ = holder.Wait()
	})
	n := &NS{pid: holder.Process.Pid}
	n.Run(t, "ip", "link", "set", "lo", "up")
	return n
}

// path is the namespace's file.
func (n *NS) path() string { return "/proc/" + strconv.Itoa(n.pid) + "/ns/net" }

// Command prepares a command in the namespace.
func (n *NS) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.path(), "--", name}, args...)...)
}

// Try runs a command in the namespace and returns what it wrote, and an error
// if it failed. A command that is not installed ends the test.
func (n *NS) Try(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Fatalf("the test needs the command %s; `make packages` installs it: %v", name, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	out, err := n.Command(ctx, name, args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Run is Try for commands that must succeed.
func (n *NS) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := n.Try(t, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// IP runs `ip` with the words of a line.
func (n *NS) IP(t testing.TB, line string) string {
	t.Helper()
	return n.Run(t, "ip", strings.Fields(line)...)
}

// Sysctl sets a kernel parameter of the namespace, named by its path below
// /proc/sys/net.
func (n *NS) Sysctl(t testing.TB, path, value string) {
	t.Helper()
	n.Run(t, "sh", "-c", fmt.Sprintf("echo %s > /proc/sys/net/%s", value, path))
}

// Do calls f on a thread that is in the namespace: sockets that f opens belong
// there. The thread ends with f.
func (n *NS) Do(t testing.TB, f func() error) {
	t.Helper()
	if err := <-n.start(f); err != nil {
		t.Fatal(err)
	}
}

// start calls f on a thread of its own that is in the namespace.
func (n *NS) start(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread must stay where it is: it cannot end, and to
			// others its namespace is the process's. It waits for another.
			done <- <-n.start(f)
			runtime.UnlockOSThread()
			return
		}
		// Never unlocked: the runtime then ends the thread, which is in a
		// namespace that nobody else must meet.
		done <- func() error {
			file, err := os.Open(n.path())
			if err != nil {
				return err
			}
			defer file.Close()
			if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the network namespace: %w", err)
			}
			return f()
		}()
	}()
	return done
}

// Veth connects two namespaces by a pair of interfaces, both up. The pair is
// gone after the test.
func Veth(t testing.TB, a *NS, nameA string, b *NS, nameB string) {
	t.Helper()
	a.IP(t, fmt.Sprintf("link add %s netns %d type veth peer name %s netns %d", nameA, a.pid, nameB, b.pid))
	t.Cleanup(func() { _, _ = a.Try(t, "ip", "link", "del", nameA) })
	a.IP(t, "link set "+nameA+" up")
	b.IP(t, "link set "+nameB+" up")
}

// MAC is the Ethernet address of an interface.
func (n *NS) MAC(t testing.TB, name string) net.HardwareAddr {
	t.Helper()
	out := n.IP(t, "-o link show dev "+name)
	_, after, _ := strings.Cut(out, "link/ether ")
	mac, err := net.ParseMAC(strings.SplitN(after, " ", 2)[0])
	if err != nil {
		t.Fatalf("interface %s has no Ethernet address: %s", name, out)
	}
	return mac
}

// Wait polls until a condition holds and ends the test if it does not in time.
func Wait(t testing.TB, bound time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(bound)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", bound, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A Process is a command that runs until the test stops it or ends.
type Process struct {
	cmd  *exec.Cmd
	out  lockedBuffer
	err  lockedBuffer
	done chan struct{}
}

// Start starts a command in the namespace. It is interrupted, and waited for,
// when the test ends.
func (n *NS) Start(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), processLife)
	p := &Process{cmd: n.Command(ctx, name, args...), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.Stop()
		cancel()
	})
	return p
}

// Stop interrupts the process and waits for its end. It may be repeated.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	<-p.done
}

// Signal sends a signal to the process.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Output is what the process wrote so far.
func (p *Process) Output() string { return p.out.String() }

// Errors is what the process wrote so far to its standard error.
func (p *Process) Errors() string { return p.err.String() }

// lockedBuffer is written by the process's copier and read by the test.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
