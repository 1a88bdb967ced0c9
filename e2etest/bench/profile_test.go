//go:build lab

package bench

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/heraldlb/herald/e2etest/herald"
)

// profileDir names the folder into which profiles of the measured processes go.
// Profiling costs time and memory, so the figures of such a run do not count.
const profileDir = "HERALD_BENCH_PROFILES"

const profilePort = "6060"

// enableProfiles has Herald's processes serve profiles, if they are wanted.
func (w *world) enableProfiles() {
	w.Helper()
	if os.Getenv(profileDir) == "" {
		return
	}
	for _, workload := range []string{"deployment/controller", "daemonset/speaker"} {
		_, err := w.Kubectl(w.ctx, "-n", herald.Namespace, "patch", workload, "--type=json",
			`--patch=[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--pprof-bind-address=:`+profilePort+`"}]`)
		w.must(err)
	}
	w.must(herald.WaitReady(w.ctx, w.Cluster))
}

// profile takes a profile of a process, at an address that host can reach: "heap",
// or "profile", which lasts for some time and comes in the background.
func (w *world) profile(host, address, kind, name string, during time.Duration) {
	dir := os.Getenv(profileDir)
	if dir == "" {
		return
	}
	client := w.httpClient(host)
	client.Timeout = during + 10*time.Second
	fetch := func() error {
		url := fmt.Sprintf("http://%s:%s/debug/pprof/%s", address, profilePort, kind)
		if during > 0 {
			url += fmt.Sprintf("?seconds=%d", int(during.Seconds()))
		}
		resp, err := client.Get(url)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", url, resp.Status)
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+"."+kind+".pprof"), raw, 0o644)
	}
	if during == 0 {
		w.must(fetch())
		return
	}
	go func() {
		// Until the process listens.
		var err error
		for range 100 {
			if err = fetch(); err == nil {
				return
			}
			w.pause(20 * time.Millisecond)
		}
		w.step("no profile of %s: %v", name, err)
	}()
}
