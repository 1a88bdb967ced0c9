package nsnet

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a running process as /proc shows it.
type Process struct {
	PID       int
	Namespace string // the name of its network namespace
	Program   string // the base name of its executable
	State     byte   // R, S, D, T, Z, ... as in proc(5)
}

// Processes returns every process whose network namespace is one of the named
// ones. A process belongs to a lab exactly if its network namespace does, so this
// finds them all, whoever started them and however deep.
func Processes(names []string) ([]Process, error) {
	byInode := map[uint64]string{}
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(Dir, name), &st); err == nil {
			byInode[st.Ino] = name
		}
	}
	if len(byInode) == 0 {
		return nil, nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st); err != nil {
			continue // it has ended, or it is a zombie, which has no namespace
		}
		name, ok := byInode[st.Ino]
		if !ok {
			continue
		}
		found = append(found, Process{PID: pid, Namespace: name, Program: program(pid), State: state(pid)})
	}
	return found, nil
}

// program is the base name of what a process executes. A binary that was called
// by another name (one binary, many programs) counts under that name.
func program(pid int) string {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err == nil && len(cmdline) > 0 {
		first, _, _ := strings.Cut(string(cmdline), "\x00")
		return filepath.Base(first)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return filepath.Base(exe)
}

// stat returns the fields of /proc/PID/stat from the state (field 3) on.
func stat(pid int) []string {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	// The command, field 2, stands in parentheses and may contain anything.
	end := strings.LastIndexByte(string(raw), ')')
	if end < 0 {
		return nil
	}
	return strings.Fields(string(raw[end+1:]))
}

func state(pid int) byte {
	if f := stat(pid); len(f) > 0 {
		return f[0][0]
	}
	return 0
}

// StartTime is when a process started, in clock ticks since boot; with the pid it
// names a process for good. It is 0 when there is no such process.
func StartTime(pid int) uint64 {
	f := stat(pid)
	if len(f) < 20 || f[0] == "Z" {
		return 0
	}
	ticks, err := strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}
