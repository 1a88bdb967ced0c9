package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Names under which the executable runs itself again.
const (
	InitName = "lab-agent-init"
	execName = "lab-agent-exec"
)

// File descriptors that the spawner hands over.
const (
	specFD  = 3 // the Spec as JSON
	errorFD = 4 // where a failure before exec is written; closed by exec
	netnsFD = 5 // the network namespace to join; absent for the agent's own
)

// failedExit is the status of an init that failed; its reason is on errorFD.
const failedExit = 125

// MaybeInit returns at once in an ordinary run. When the process was started by
// a [Spawner] it becomes the container's process and never returns. It must be
// the first thing main does, and TestMain in tests that start containers.
func MaybeInit() {
	var run func() error
	switch os.Args[0] {
	case InitName:
		run = runInit
	case execName:
		run = runExec
	default:
		return
	}
	// Namespaces and credentials belong to threads. The one that is prepared
	// here is the one that executes the container's binary.
	runtime.LockOSThread()
	err := run()
	report := os.NewFile(errorFD, "errors")
	fmt.Fprint(report, err)
	os.Exit(failedExit)
}

func runInit() error {
	for _, fd := range []int{specFD, errorFD, netnsFD} {
		unix.CloseOnExec(fd)
	}
	var s Spec
	if err := readJSON(os.NewFile(specFD, "spec"), &s); err != nil {
		return err
	}
	if s.Netns {
		if err := unix.Setns(netnsFD, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("join the pod's network namespace: %w", err)
		}
	}
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("set hostname %s: %w", s.Hostname, err)
		}
	}
	if err := buildRoot(&s); err != nil {
		return err
	}
	giveStdio(s.UID)
	unix.Umask(0o022)
	return execute(s.Identity, s.Argv, s.Env, s.Cwd)
}

// giveStdio makes the container's user the owner of its output, so that it may
// open /dev/stdout again.
func giveStdio(uid uint32) {
	for fd := 0; fd <= 2; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			// Best effort: output works through the descriptor either way.
			_ = unix.Fchown(fd, int(uid), -1)
		}
	}
}

// execute becomes id and replaces this process by argv.
func execute(id Identity, argv, env []string, cwd string) error {
	if cwd == "" {
		cwd = "/"
	}
	if err := os.MkdirAll(cwd, 0o755); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("make the working directory: %w", err)
	}
	if err := unix.Chdir(cwd); err != nil {
		return fmt.Errorf("enter the working directory %s: %w", cwd, err)
	}
	if err := id.become(); err != nil {
		return err
	}
	path, err := lookPath(argv[0], env)
	if err != nil {
		return err
	}
	if err := syscall.Exec(path, argv, env); err != nil {
		return fmt.Errorf("exec %s: %w", path, err)
	}
	return nil
}

// lookPath finds the command in the container as execvp(3) would, by the
// container's own PATH.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if _, err := os.Stat(name); err != nil {
			return "", fmt.Errorf("command %q is not in the image: %w", name, err)
		}
		return name, nil
	}
	for _, dir := range filepath.SplitList(lookupEnv(env, "PATH")) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("command %q is not in the image's PATH (%s)", name, lookupEnv(env, "PATH"))
}

func lookupEnv(env []string, name string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}
