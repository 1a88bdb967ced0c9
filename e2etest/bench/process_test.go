//go:build lab

package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/heraldlb/herald/e2etest/bench/usage"
)

// processOf finds the process of a pod by its environment, in which the manifests
// put the pod's name.
func processOf(pod string) (usage.Process, error) {
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return usage.Process{}, err
	}
	for _, path := range environments {
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(raw, []byte("METALLB_POD_NAME="+pod+"\x00")) {
			continue // also what ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return usage.Process{}, err
		}
		return usage.Of(pid)
	}
	return usage.Process{}, fmt.Errorf("pod %s has no process", pod)
}
