// Package usage tells what a process uses, as the kernel counts it.
package usage

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is one that runs.
type Process struct {
	PID     int
	Started time.Time
}

// ticksPerSecond is the unit of /proc/PID/stat on Linux.
const ticksPerSecond = 100

// Of returns the process with a number.
func Of(pid int) (Process, error) {
	p := Process{PID: pid}
	var err error
	p.Started, err = p.start()
	return p, err
}

// start is when the process began, which the kernel counts from its own start.
func (p Process) start() (time.Time, error) {
	fields, err := p.stat()
	if err != nil {
		return time.Time{}, err
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read when process %d started: %w", p.PID, err)
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	age := time.Duration(boot.Nano()) - time.Duration(ticks)*(time.Second/ticksPerSecond)
	return time.Now().Add(-age), nil
}

// stat returns the fields of /proc/PID/stat after the name, the third on.
func (p Process) stat() ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return nil, fmt.Errorf("read what process %d uses: %w", p.PID, err)
	}
	// The name may hold anything, parentheses too.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 22 {
		return nil, fmt.Errorf("read what process %d uses: %d fields", p.PID, len(fields))
	}
	return fields, nil
}

// CPU is how many seconds of a processor the process has used, in user mode and
// in the kernel.
func (p Process) CPU() (float64, error) {
	fields, err := p.stat()
	if err != nil {
		return 0, err
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticksPerSecond, errors.Join(err1, err2)
}

// Memory returns the resident memory in MB (10^6 bytes), and the most there was.
func (p Process) Memory() (now, peak float64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of process %d: %w", p.PID, err)
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*float64{"VmRSS": &now, "VmHWM": &peak}[name]
		if into == nil {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the memory of process %d: %w", p.PID, err)
		}
		*into = kib * 1024 / 1e6
	}
	return now, peak, nil
}
