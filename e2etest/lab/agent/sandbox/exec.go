package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// joinOrder has the mount namespace last: after it, /proc is the container's.
var joinOrder = []struct {
	name string
	flag int
}{
	{"ipc", unix.CLONE_NEWIPC}, {"uts", unix.CLONE_NEWUTS}, {"net", unix.CLONE_NEWNET},
	{"pid", unix.CLONE_NEWPID}, {"mnt", unix.CLONE_NEWNS},
}

// runExec joins the namespaces of a running container and runs one command in
// it. A pid namespace takes effect for children only, so the command is a
// child. It is in the helper's process group, by which the agent ends both, and
// in the container's pid namespace, with which it ends too.
func runExec() error {
	unix.CloseOnExec(specFD)
	unix.CloseOnExec(errorFD)
	var s execSpec
	if err := readJSON(os.NewFile(specFD, "spec"), &s); err != nil {
		return err
	}
	fds := make([]int, len(joinOrder))
	for i, ns := range joinOrder {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", s.PID, ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open the container's %s namespace: %w", ns.name, err)
		}
		fds[i] = fd
	}
	// A thread that shares its root directory with others may not change its
	// mount namespace (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare the root directory: %w", err)
	}
	for i, ns := range joinOrder {
		if err := unix.Setns(fds[i], ns.flag); err != nil {
			return fmt.Errorf("join the container's %s namespace: %w", ns.name, err)
		}
	}
	if s.Cwd == "" {
		s.Cwd = "/"
	}
	if err := s.become(); err != nil {
		return err
	}
	path, err := lookPath(s.Argv[0], s.Env)
	if err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: path, Args: s.Argv, Env: s.Env, Dir: s.Cwd, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	// From here on the exit status is the command's.
	unix.Close(errorFD)
	var exit *exec.ExitError
	if err := cmd.Wait(); errors.As(err, &exit) {
		os.Exit(exitCode(exit.ProcessState))
	}
	os.Exit(0)
	return nil
}

// exitCode follows the shell: 128 + signal for a process that was killed.
func exitCode(ps *os.ProcessState) int {
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ps.ExitCode()
}
