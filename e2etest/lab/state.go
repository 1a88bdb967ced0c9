package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/heraldlb/herald/e2etest/lab/nsnet"
	"golang.org/x/sys/unix"
)

// State is what a running lab writes about itself, in StateDir/state.json: enough
// to use it, and to clean up after it.
type State struct {
	Layout  Layout
	Options Options
	// Supervisor is the process that holds the lab, with its start time, because
	// pids are used again.
	Supervisor      int
	SupervisorStart uint64
	Started         time.Time
	// Kubeconfig is the administrator's, good from the machine itself.
	Kubeconfig string
}

const stateFile = "state.json"

// ReadState reads the state of the lab that lives in a folder.
func ReadState(dir string) (State, error) {
	var s State
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("no lab in %s: %w", dir, err)
	}
	if err != nil {
		return s, fmt.Errorf("read the lab's state: %w", err)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("read the lab's state: %s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

// write replaces the state file in one step.
func (s State) write() error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	path := filepath.Join(s.Options.StateDir, stateFile)
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	return os.Rename(path+".new", path)
}

// Alive reports whether the supervisor of the lab is still running.
func (s State) Alive() bool {
	return s.Supervisor > 0 && s.SupervisorStart != 0 && nsnet.StartTime(s.Supervisor) == s.SupervisorStart
}

// Prepare plans a lab and makes its empty state folder with the state file in it,
// held by the calling process. The supervisor calls it first of all.
func Prepare(o Options) (State, error) {
	o, err := o.complete()
	if err != nil {
		return State{}, err
	}
	l, err := plan(o)
	if err != nil {
		return State{}, err
	}
	if entries, err := os.ReadDir(o.StateDir); err == nil && len(entries) > 0 {
		return State{}, fmt.Errorf("the lab's folder %s is not empty", o.StateDir)
	}
	for _, dir := range []string{o.StateDir, o.LogDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return State{}, fmt.Errorf("make the lab's folder: %w", err)
		}
	}
	if o.Images, err = o.withBuilt(); err != nil {
		return State{}, err
	}
	s := State{
		Layout: l, Options: o,
		Supervisor: os.Getpid(), SupervisorStart: nsnet.StartTime(os.Getpid()),
		Started:    time.Now(),
		Kubeconfig: filepath.Join(o.StateDir, "kubeconfig"),
	}
	return s, errors.Join(s.write(), writeImages(ImagesFile(o.StateDir), o.Images))
}

// Sweep removes whatever is left of the lab of a name: its processes, namespaces,
// mounts and folder. It does not look whether the lab is in use.
func Sweep(name, stateDir string) error {
	prefix := namespacePrefix(name)
	all := func(ns string) bool { return strings.HasPrefix(ns, prefix) }
	return errors.Join(nsnet.Clear(all), removeState(stateDir))
}

// removeState removes a lab's folder, and first what is mounted in it. A folder
// that holds files but no lab's state is left alone.
func removeState(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into the lab's folder: %w", err)
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == stateFile }) {
		return fmt.Errorf("%s holds files but no lab: left as it is", dir)
	}
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	// The state file goes last, so that an interrupted removal is still known to be
	// a lab's folder.
	for _, e := range entries {
		if e.Name() == stateFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove the lab's folder: %w", err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the lab's folder: %w", err)
	}
	return nil
}
