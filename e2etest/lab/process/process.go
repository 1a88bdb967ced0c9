// Package process keeps a program running: it starts it inside a namespace, writes
// its output to a log, starts it again when it ends by itself, and ends it for
// good. A program started here dies with the lab, also when the lab is killed.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Place is where a program runs: a namespace's thread, which must live as long as
// the program may (see nsnet.Namespace).
type Place interface {
	Do(func() error) error
}

// Spec is what to run.
type Spec struct {
	Name string // in messages, and as the program's argv[0]
	Path string
	Args []string
	Env  []string // nil: the caller's environment
	Log  string   // the file that stdout and stderr are appended to
}

// restartDelay is how long a program that ended by itself waits for its next
// start, as a service manager would have it.
const restartDelay = 500 * time.Millisecond

// Process is a program that is kept running.
type Process struct {
	place Place
	spec  Spec

	mu     sync.Mutex
	cmd    *exec.Cmd
	cancel context.CancelFunc
	ended  chan struct{} // closed when the keeper has ended
}

// New describes a program without starting it.
func New(place Place, spec Spec) *Process { return &Process{place: place, spec: spec} }

// Name is the program's name.
func (p *Process) Name() string { return p.spec.Name }

// Start starts the program and keeps it running until Stop. Starting a program
// that runs is not an error and does nothing.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return nil
	}
	cmd, err := p.launch()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cmd, p.cancel, p.ended = cmd, cancel, make(chan struct{})
	go p.keep(ctx, cmd, p.ended)
	return nil
}

// PID returns the program's process id, 0 when it does not run.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil || p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Stop asks the program to end, kills it after the grace, and waits for its end.
// A grace of zero kills at once.
func (p *Process) Stop(grace time.Duration) {
	p.mu.Lock()
	cancel, ended := p.cancel, p.ended
	if cancel == nil {
		p.mu.Unlock()
		return
	}
	cancel() // before the signal: its end is then no reason to start it again
	p.signal(syscall.SIGTERM, grace > 0)
	p.mu.Unlock()

	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		p.mu.Lock()
		p.signal(syscall.SIGKILL, true)
		p.mu.Unlock()
		<-ended
	}
	p.mu.Lock()
	p.cancel, p.cmd = nil, nil
	p.mu.Unlock()
}

// signal sends a signal to the program if wanted and if there is one.
func (p *Process) signal(sig syscall.Signal, wanted bool) {
	if wanted && p.cmd != nil {
		_ = p.cmd.Process.Signal(sig) // the program may just have ended: that is the aim
	}
}

// keep waits for the program's end and starts it again until ctx is done.
func (p *Process) keep(ctx context.Context, cmd *exec.Cmd, ended chan struct{}) {
	defer close(ended)
	for {
		if cmd != nil {
			_ = cmd.Wait() // how it ended stands in its log
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(restartDelay):
		}
		p.mu.Lock()
		if ctx.Err() != nil {
			p.mu.Unlock()
			return
		}
		next, err := p.launch()
		if err != nil {
			next = nil
			p.note(err)
		}
		cmd, p.cmd = next, next
		p.mu.Unlock()
	}
}

// launch starts the program once.
func (p *Process) launch() (*exec.Cmd, error) {
	if err := os.MkdirAll(filepath.Dir(p.spec.Log), 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	log, err := os.OpenFile(p.spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	defer log.Close() // the child has its own copy
	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	cmd.Args[0] = p.spec.Name
	cmd.Env = p.spec.Env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a terminal's ^C is for the lab, not for its programs
	}
	if err := p.place.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.spec.Name, err)
	}
	return cmd, nil
}

// note writes a line of the keeper into the program's own log.
func (p *Process) note(err error) {
	log, openErr := os.OpenFile(p.spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if openErr != nil {
		return
	}
	defer log.Close()
	fmt.Fprintf(log, "lab: %v\n", err)
}

// Tail returns the last bytes of the program's log, for an error message.
func (p *Process) Tail(n int64) string {
	f, err := os.Open(p.spec.Log)
	if err != nil {
		return ""
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return ""
	}
	buf := make([]byte, min(n, st.Size()))
	if _, err := f.ReadAt(buf, max(0, st.Size()-n)); err != nil && !errors.Is(err, os.ErrClosed) {
		return ""
	}
	return string(buf)
}
