//go:build lab

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A process is a running container of Herald, as the kernel sees it.
type process struct {
	pid     int
	started time.Time
}

// ticksPerSecond is the unit of /proc/PID/stat on Linux.
const ticksPerSecond = 100

// processOf finds the process of a pod by its environment, in which the manifests
// put the pod's name.
func processOf(pod string) (process, error) {
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return process{}, err
	}
	for _, path := range environments {
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(raw, []byte("METALLB_POD_NAME="+pod+"\x00")) {
			continue // also what ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return process{}, err
		}
		p := process{pid: pid}
		if p.started, err = p.start(); err != nil {
			return process{}, err
		}
		return p, nil
	}
	return process{}, fmt.Errorf("pod %s has no process", pod)
}

// start is when the process began, which the kernel counts from its own start.
func (p process) start() (time.Time, error) {
	fields, err := p.stat()
	if err != nil {
		return time.Time{}, err
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read when process %d started: %w", p.pid, err)
	}
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return time.Time{}, fmt.Errorf("read the clock: %w", err)
	}
	age := time.Duration(boot.Nano()) - time.Duration(ticks)*(time.Second/ticksPerSecond)
	return time.Now().Add(-age), nil
}

// stat returns the fields of /proc/PID/stat after the name, the third on.
func (p process) stat() ([]string, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return nil, fmt.Errorf("read what process %d uses: %w", p.pid, err)
	}
	// The name may hold anything, parentheses too.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	if len(fields) < 22 {
		return nil, fmt.Errorf("read what process %d uses: %d fields", p.pid, len(fields))
	}
	return fields, nil
}

// cpu is how many seconds of a processor the process has used, in user mode and
// in the kernel.
func (p process) cpu() (float64, error) {
	fields, err := p.stat()
	if err != nil {
		return 0, err
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticksPerSecond, errors.Join(err1, err2)
}

// memory returns the resident memory in MB (10^6 bytes), and the most there was.
func (p process) memory() (now, peak float64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read the memory of process %d: %w", p.pid, err)
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*float64{"VmRSS": &now, "VmHWM": &peak}[name]
		if into == nil {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			return 0, 0, fmt.Errorf("read the memory of process %d: %w", p.pid, err)
		}
		*into = kib * 1024 / 1e6
	}
	return now, peak, nil
}
