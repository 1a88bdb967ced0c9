package nsnet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a running process as /proc shows it.
type Process struct {
	PID       int
	Namespace string // the name of its network namespace, or of its ancestor's
	Program   string // the base name of its executable
	State     byte   // R, S, D, T, Z, ... as in proc(5)
}

// Processes returns every process whose network namespace is one of the named
// ones, and all their descendants, whose namespaces may have no name: pods' are
// held by their agent only. A process belongs to a lab exactly if it is among
// these, so this finds them all, whoever started them and however deep.
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
	children := map[int][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if parent := parent(pid); parent > 0 {
			children[parent] = append(children[parent], pid)
		}
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st); err != nil {
			continue // it has ended, or it is a zombie, which has no namespace
		}
		if name, ok := byInode[st.Ino]; ok {
			found = append(found, describe(pid, name))
		}
	}
	seen := map[int]bool{}
	for _, p := range found {
		seen[p.PID] = true
	}
	for i := 0; i < len(found); i++ { // found grows: descendants of any depth
		for _, pid := range children[found[i].PID] {
			if !seen[pid] {
				seen[pid] = true
				found = append(found, describe(pid, found[i].Namespace))
			}
		}
	}
	return slices.DeleteFunc(found, func(p Process) bool { return p.State == 0 || p.State == 'Z' }), nil
}

func describe(pid int, namespace string) Process {
	return Process{PID: pid, Namespace: namespace, Program: program(pid), State: state(pid)}
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

// parent is the process id of a process's parent, 0 when there is none.
func parent(pid int) int {
	f := stat(pid)
	if len(f) < 2 {
		return 0
	}
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		return 0
	}
	return ppid
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
