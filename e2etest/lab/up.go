package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Cluster is a lab that runs.
type Cluster struct {
	State State
	// lifeline keeps a lab that is not detached: the supervisor ends when this
	// pipe closes, which the kernel does for a program that crashed.
	lifeline io.Closer
	ended    chan struct{}
}

// Up makes a lab and returns when all its nodes are Ready. What an earlier lab of
// the same name left behind is swept first; if one is running, Up fails.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	if o.BinDir == "" {
		if o.BinDir, err = FindBin(); err != nil {
			return nil, err
		}
	}
	sv, err := startSupervisor(o)
	if err != nil {
		return nil, err
	}
	ready := make(chan error, 1)
	go func() { ready <- sv.relay(o.Progress) }()
	select {
	case err = <-ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		sv.lifeline.Close()
		_ = sv.cmd.Process.Signal(syscall.SIGTERM) // a detached one has no lifeline
		sv.wait()
		return nil, fmt.Errorf("lab %s does not start: %w%s", o.Name, err, sv.complaint())
	}
	c := &Cluster{lifeline: sv.lifeline, ended: make(chan struct{})}
	go func() {
		sv.wait()
		close(c.ended)
	}()
	if c.State, err = ReadState(o.StateDir); err != nil {
		return nil, errors.Join(err, c.Down())
	}
	return c, nil
}

// supervisorProcess is the lab command as Up starts it.
type supervisorProcess struct {
	cmd      *exec.Cmd
	lifeline io.Closer
	out      io.Reader
	stderr   bytes.Buffer
}

func startSupervisor(o Options) (*supervisorProcess, error) {
	raw, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("write the lab's options: %w", err)
	}
	sv := &supervisorProcess{cmd: exec.Command(filepath.Join(o.BinDir, "lab"), "supervise", string(raw))}
	sv.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a terminal's ^C is for its caller
	sv.cmd.Stderr = &sv.stderr
	if sv.out, err = sv.cmd.StdoutPipe(); err != nil {
		return nil, fmt.Errorf("start the lab: %w", err)
	}
	if sv.lifeline, err = sv.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start the lab: %w", err)
	}
	if err := sv.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the lab (make lab-bin builds it): %w", err)
	}
	return sv, nil
}

// relay copies progress until the lab says that it is ready.
func (sv *supervisorProcess) relay(progress io.Writer) error {
	lines := bufio.NewScanner(sv.out)
	for lines.Scan() {
		if strings.HasSuffix(lines.Text(), "  "+ReadyLine) {
			fmt.Fprintln(progress, lines.Text())
			return nil
		}
		fmt.Fprintln(progress, lines.Text())
	}
	return errors.Join(errors.New("it ended before it was ready"), lines.Err())
}

// wait waits for the supervisor's end. Its exit status says nothing that matters
// here: how it went stands on its stderr.
func (sv *supervisorProcess) wait() { _ = sv.cmd.Wait() }

// complaint is what the supervisor wrote to stderr, once it has ended.
func (sv *supervisorProcess) complaint() string {
	if text := strings.TrimSpace(sv.stderr.String()); text != "" {
		return ": " + text
	}
	return ""
}

// Attach finds the lab that runs with a name in its default folder.
func Attach(name string) (*Cluster, error) { return AttachDir(DefaultStateDir(name)) }

// AttachDir finds the lab that runs in a folder.
func AttachDir(stateDir string) (*Cluster, error) {
	s, err := ReadState(stateDir)
	if err != nil {
		return nil, err
	}
	if !s.Alive() {
		return nil, fmt.Errorf("lab %s in %s does not run any more; lab down --name %s removes what is left of it",
			s.Options.Name, stateDir, s.Options.Name)
	}
	return &Cluster{State: s}, nil
}

// downTimeout bounds the supervisor's own clean-up.
const downTimeout = 20 * time.Second

// Down ends the lab and returns when nothing is left of it.
func (c *Cluster) Down() error {
	err := Remove(c.State.Options.Name, c.State.Options.StateDir)
	if c.lifeline != nil {
		c.lifeline.Close()
		<-c.ended // it is dead by now; this reaps it
	}
	return err
}

// Remove ends the lab of a name, if it runs, and removes whatever is left of it,
// also of one that crashed.
func Remove(name, stateDir string) error {
	if !nameRE.MatchString(name) {
		return fmt.Errorf("lab name %q: want at most 16 lower-case letters and digits, a letter first", name)
	}
	s, err := ReadState(stateDir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err == nil && s.Options.Name != name {
		return fmt.Errorf("the lab in %s is named %s, not %s", stateDir, s.Options.Name, name)
	}
	if s.Alive() {
		ctx, cancel := context.WithTimeout(context.Background(), downTimeout)
		defer cancel()
		if err := s.end(ctx); err != nil {
			return err
		}
	}
	return Sweep(name, stateDir)
}

// end asks the supervisor to end, and kills it if it does not.
func (s State) end(ctx context.Context) error {
	_, asked := ask(ctx, s.Options.Name, Request{Verb: "down"})
	if asked != nil && s.Alive() {
		_ = syscall.Kill(s.Supervisor, syscall.SIGTERM) // it may have ended just now
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.Alive() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			// Its children die with it, by their parent-death signal, and the
			// sweep finds the rest.
			if err := syscall.Kill(s.Supervisor, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill the supervisor of lab %s: %w", s.Options.Name, err)
			}
			return nil
		}
	}
	return nil
}
