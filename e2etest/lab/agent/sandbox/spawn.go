package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// startTimeout bounds the time from fork to exec of a container's process.
const startTimeout = 20 * time.Second

// ErrClosed is returned by a spawner that has ended.
var ErrClosed = errors.New("the spawner has ended")

// Spawner starts container processes, all from one thread that it owns. A
// parent-death signal is sent when the parent's *thread* ends, and Go may end
// a thread that was used for namespace work; so the thread that forks must be
// one that nobody else uses. When Run returns, that thread ends, and with it
// every process that is still there.
type Spawner struct {
	requests chan func()
	done     chan struct{}
}

// NewSpawner returns a spawner; nothing starts before Run.
func NewSpawner() *Spawner {
	return &Spawner{requests: make(chan func()), done: make(chan struct{})}
}

// Run serves until ctx ends, then kills what it started.
func (s *Spawner) Run(ctx context.Context) {
	defer close(s.done)
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-s.requests:
			f()
		}
	}
}

// onThread runs f on the spawner's thread and waits for it.
func (s *Spawner) onThread(f func() error) error {
	result := make(chan error, 1)
	select {
	case s.requests <- func() { result <- f() }:
		return <-result
	case <-s.done:
		return ErrClosed
	}
}

// Exit is how a process ended.
type Exit struct {
	Code   int // 128 + signal when it was killed
	Signal int // 0 when it ended by itself
}

// Process is a container's first process.
type Process struct {
	PID  int
	proc *os.Process
	done chan struct{}
	exit Exit
}

// Done is closed when the process, and every other one in its pid namespace,
// has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is valid after Done.
func (p *Process) Exit() Exit { <-p.done; return p.exit }

// Signal sends sig; a process that has ended already is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to process %d: %w", sig, p.PID, err)
	}
	return nil
}

// Start runs spec and returns when the container's binary is executing.
// Output, when given, receives both stdout and stderr. netns is the network
// namespace to join, nil for the agent's own.
func (s *Spawner) Start(spec *Spec, netns, output *os.File) (*Process, error) {
	if len(spec.Argv) == 0 {
		return nil, errors.New("the container has no command and its image no entrypoint")
	}
	flags := uintptr(syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS)
	if !spec.HostPID {
		flags |= syscall.CLONE_NEWPID
	}
	withNetns := *spec
	withNetns.Netns = netns != nil
	cmd := selfCommand(InitName)
	cmd.SysProcAttr.Cloneflags = flags
	if output != nil {
		cmd.Stdout, cmd.Stderr = output, output
	}
	if err := s.launch(cmd, &withNetns, netns); err != nil {
		return nil, err
	}
	p := &Process{PID: cmd.Process.Pid, proc: cmd.Process, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		// The error repeats the exit status, which is read below.
		_ = cmd.Wait()
		p.exit = exitOf(cmd.ProcessState)
	}()
	return p, nil
}

// ExecOptions describe one more command in a running container.
type ExecOptions struct {
	Identity       Identity
	Argv, Env      []string
	Cwd            string
	TTY            bool
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Exec runs a command in the container whose first process is p, until it ends
// or ctx does. The command's own exit status is returned as code.
func (s *Spawner) Exec(ctx context.Context, p *Process, o ExecOptions) (code int, err error) {
	if len(o.Argv) == 0 {
		return 0, errors.New("no command was given")
	}
	cmd := selfCommand(execName)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stderr
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr.Setctty = o.TTY // stdin is the terminal, and the helper leads its session
	spec := execSpec{PID: p.PID, Identity: o.Identity, Argv: o.Argv, Env: o.Env, Cwd: o.Cwd}
	if err := s.launch(cmd, &spec, nil); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("command %q was stopped: %w", o.Argv[0], ctx.Err())
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return 0, nil
	case errors.As(err, &exit):
		return exitCode(exit.ProcessState), nil
	}
	return 0, fmt.Errorf("wait for command %q: %w", o.Argv[0], err)
}

// selfCommand runs this executable again as a session leader that dies with the
// spawner's thread. (In a new pid namespace Go's check that the parent is still
// there sees parent 0 and sends the signal, which the first process of a
// namespace does not receive from inside: harmless.)
func selfCommand(name string) *exec.Cmd {
	return &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        []string{name},
		Env:         []string{"GOMAXPROCS=1"},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL},
	}
}

// launch starts cmd with its description, and waits until it has executed the
// container's binary or said why it could not.
func (s *Spawner) launch(cmd *exec.Cmd, spec any, netns *os.File) error {
	body, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("write the container's description: %w", err)
	}
	specR, specW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer specR.Close()
	errR, errW, err := os.Pipe()
	if err != nil {
		specW.Close()
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer errR.Close()
	cmd.ExtraFiles = []*os.File{specR, errW}
	if netns != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, netns)
	}
	err = s.onThread(cmd.Start)
	errW.Close()
	if err != nil {
		specW.Close()
		return fmt.Errorf("start the init: %w", err)
	}
	go func() {
		defer specW.Close()
		// A failure here makes the init fail, which is reported below.
		_, _ = specW.Write(body)
	}()
	if err := errR.SetReadDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("set a deadline: %w", err)
	}
	var why bytes.Buffer
	if _, err := io.Copy(&why, errR); err != nil {
		fmt.Fprintf(&why, "the init did not start the command: %v", err)
	}
	if why.Len() == 0 {
		return nil
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return errors.New(why.String())
}

func exitOf(ps *os.ProcessState) Exit {
	e := Exit{Code: exitCode(ps)}
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		e.Signal = int(ws.Signal())
	}
	return e
}
