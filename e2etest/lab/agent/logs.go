package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxLog bounds a container's log; when a process starts on a longer one, the
// log begins anew.
const maxLog = 64 << 20

func (a *Agent) logPath(namespace, pod, container string) string {
	return filepath.Join(a.cfg.StateDir, "logs", fmt.Sprintf("%s_%s_%s.log", namespace, pod, container))
}

// openLog opens the log for the next process: one file per container, to which
// every process of it appends.
func (c *container) openLog() (*os.File, error) {
	pod := c.w.latest()
	f, err := os.OpenFile(c.w.a.logPath(pod.Namespace, pod.Name, c.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the container's log: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end > maxLog {
		end, err = 0, f.Truncate(0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open the container's log: %w", err)
	}
	c.mu.Lock()
	c.logPrev, c.logFrom = min(c.logFrom, end), end
	c.mu.Unlock()
	return f, nil
}
