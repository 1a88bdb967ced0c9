//go:build lab

package bgp

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab/nsnet"
)

// inside names the folder of the child, in which it keeps everything.
const inside = "HERALD_BENCH_BGP"

func TestMain(m *testing.M) {
	flag.Parse()
	switch {
	case flag.Lookup("test.bench").Value.String() == "":
		os.Exit(m.Run()) // nothing here needs the namespaces
	case os.Getenv(inside) != "":
		if err := settle(); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		code := m.Run()
		world.end()
		os.Exit(code)
	}
	code, err := enclose()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(code)
}

// folders is how the folders of children are named: by their parent, so that the
// next run can remove those of parents that were killed.
const folders = "herald-bench-bgp-%d-%d-%d"

// enclose builds the speaker and runs this program again in namespaces of its own.
func enclose() (code int, err error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("these benchmarks make namespaces, so they need root")
	}
	if err := sweep(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("herald-bench-bgp-%d-%d-*", os.Getpid(), nsnet.StartTime(os.Getpid())))
	if err != nil {
		return 1, fmt.Errorf("make the benchmarks' folder: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // FRR is another user
		return 1, fmt.Errorf("make the benchmarks' folder: %w", err)
	}
	root, err := herald.Root()
	if err != nil {
		return 1, err
	}
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "speaker"), "./speaker")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the speaker: %w\n%s", err, out)
	}
	// The death signal is bound to the thread that forks.
	runtime.LockOSThread()
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), inside+"="+dir, "TMPDIR="+dir)
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := child.Start(); err != nil {
		return 1, fmt.Errorf("start the benchmarks in namespaces of their own: %w", err)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-stop
		_ = child.Process.Kill() // the kernel ends all that it has started
	}()
	err = child.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, fmt.Errorf("wait for the benchmarks: %w", err)
	}
	return 0, nil
}

// sweep removes the folders of parents that are no more.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), "herald-bench-bgp-*-*-*"))
	if err != nil {
		return fmt.Errorf("look for folders of benchmarks that crashed: %w", err)
	}
	for _, dir := range dirs {
		var pid int
		var start, rest uint64
		if n, _ := fmt.Sscanf(filepath.Base(dir), folders, &pid, &start, &rest); n != 3 || nsnet.StartTime(pid) == start {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the folder of benchmarks that crashed: %w", err)
		}
	}
	return nil
}

// settle makes the child's namespaces a place to live in: the processes that
// /proc shows are its own, and so are the names of network namespaces.
func settle() error {
	if err := os.MkdirAll(nsnet.Dir, 0o755); err != nil {
		return fmt.Errorf("make the folder of network namespaces: %w", err)
	}
	for _, m := range []struct {
		from, to, kind string
		flags          uintptr
	}{
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", 0},
		{"tmpfs", nsnet.Dir, "tmpfs", 0},
	} {
		if err := unix.Mount(m.from, m.to, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.to, err)
		}
	}
	return nil
}
