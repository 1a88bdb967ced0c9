package nsnet

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// clearTimeout bounds the wait for processes to end.
const clearTimeout = 10 * time.Second

// Clear kills every process in the namespaces that match and removes the
// namespaces.
func Clear(match func(name string) bool) error {
	if err := signalUntil(match, unix.SIGKILL, func(Process) bool { return false }); err != nil {
		return err
	}
	names, err := List(match)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, Delete(name))
	}
	return errors.Join(errs...)
}

// Freeze stops every process in the namespaces that match, as if their machine
// had stopped in the middle of an instruction.
func Freeze(match func(name string) bool) error {
	return signalUntil(match, unix.SIGSTOP, func(p Process) bool { return p.State == 'T' || p.State == 't' })
}

// Thaw continues what Freeze stopped.
func Thaw(match func(name string) bool) error {
	return signalUntil(match, unix.SIGCONT, func(p Process) bool { return p.State != 'T' && p.State != 't' })
}

// Kill sends SIGKILL to the processes of a program in the namespaces that match,
// once, and returns which they were.
func Kill(match func(name string) bool, program string) ([]Process, error) {
	procs, err := matching(match)
	if err != nil {
		return nil, err
	}
	procs = slices.DeleteFunc(procs, func(p Process) bool { return p.Program != program })
	for _, p := range procs {
		if err := send(p, unix.SIGKILL); err != nil {
			return nil, err
		}
	}
	return procs, nil
}

// signalUntil sends a signal to every process that is not settled, again and
// again: a process may start another between the look and the signal.
func signalUntil(match func(string) bool, sig unix.Signal, settled func(Process) bool) error {
	deadline := time.Now().Add(clearTimeout)
	for {
		procs, err := matching(match)
		if err != nil {
			return err
		}
		procs = slices.DeleteFunc(procs, settled)
		if len(procs) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes do not heed signal %s within %s: %v", unix.SignalName(sig), clearTimeout, procs)
		}
		for _, p := range procs {
			if err := send(p, sig); err != nil {
				return err
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func matching(match func(string) bool) ([]Process, error) {
	names, err := List(match)
	if err != nil {
		return nil, err
	}
	procs, err := Processes(names)
	return slices.DeleteFunc(procs, func(p Process) bool { return p.PID == os.Getpid() }), err
}

func send(p Process, sig unix.Signal) error {
	if err := unix.Kill(p.PID, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to %s (%d): %w", unix.SignalName(sig), p.Program, p.PID, err)
	}
	return nil
}
