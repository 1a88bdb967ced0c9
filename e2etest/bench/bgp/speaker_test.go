//go:build lab

package bgp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/heraldlb/herald/e2etest/bench/usage"
	"github.com/heraldlb/herald/e2etest/herald"
	"github.com/heraldlb/herald/e2etest/lab/process"
)

// A speaker is the real one, as a process of the node.
type speaker struct {
	rig     *rig
	program *process.Process
	log     string
	// from is where the log of the present process begins.
	from int64
}

// grace is how long a speaker may take to end.
const grace = 10 * time.Second

// startSpeaker starts the speaker, with the flags and the environment of the
// manifest and more of both.
func (r *rig) startSpeaker(flags []string, env ...string) {
	r.Helper()
	dir, err := os.MkdirTemp(r.dir, "speaker-")
	r.must(err)
	secret := filepath.Join(dir, "secret")
	r.must(os.MkdirAll(secret, 0o755))
	r.must(os.WriteFile(filepath.Join(secret, "secretkey"), bytes.Repeat([]byte("k"), 128), 0o600))
	if profiles != "" {
		flags = append(flags, "--pprof-bind-address=127.0.0.1:6060")
	}
	s := &speaker{rig: r, log: filepath.Join(dir, "log")}
	s.program = process.New(r.node, process.Spec{
		Name: "speaker", Path: filepath.Join(r.dir, "speaker"), Log: s.log,
		Args: append([]string{
			"--port=9120", "--log-level=info", "--kubeconfig=" + r.kubeconfig, "--namespace=" + herald.Namespace,
			"--node-name=" + nodeName, "--pod-name=" + podName,
		}, flags...),
		Env: append([]string{
			"METALLB_ML_BIND_ADDR=" + nodeAddr.Addr().String(), "METALLB_ML_LABELS=app=metallb,component=speaker",
			"METALLB_ML_SECRET_KEY_PATH=" + secret, "PATH=" + os.Getenv("PATH"), "HOME=/",
		}, env...),
	})
	r.speaker = s
	r.Cleanup(func() {
		s.program.Stop(grace)
		if r.Failed() {
			r.Logf("the speaker's log ends with:\n%s", s.program.Tail(8000))
		}
	})
	s.start()
}

// start starts the process, after it was stopped.
func (s *speaker) start() {
	s.rig.Helper()
	if info, err := os.Stat(s.log); err == nil {
		s.from = info.Size()
	}
	s.rig.must(s.program.Start())
}

// stop tells the process to end, and waits.
func (s *speaker) stop() { s.program.Stop(grace) }

// ready waits until the speaker says that it is.
func (s *speaker) ready() {
	s.rig.Helper()
	client := &http.Client{Timeout: time.Second}
	s.rig.until("the speaker is ready", 50*time.Millisecond, func() error {
		resp, err := client.Get("http://127.0.0.1:17472/readyz")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz says %s", resp.Status)
		}
		return nil
	})
}

// process is the running process, as the kernel sees it.
func (s *speaker) process() usage.Process {
	s.rig.Helper()
	p, err := usage.Of(s.program.PID())
	s.rig.must(err)
	return p
}

// rest waits until the process has used less than share of a processor for a while,
// and returns what it has used.
func (s *speaker) rest(share float64) float64 {
	s.rig.Helper()
	const look, calm = 2 * time.Second, 3
	p := s.process()
	before, err := p.CPU()
	s.rig.must(err)
	for quiet := 0; quiet < calm; {
		s.rig.pause(look)
		now, err := p.CPU()
		s.rig.must(err)
		quiet++
		if now-before > share*look.Seconds() {
			quiet = 0
		}
		before = now
		if s.rig.ctx.Err() != nil {
			s.rig.Fatal("the speaker does not come to rest")
		}
	}
	return before
}

// A line is one of the log.
type line struct {
	Time   time.Time `json:"ts"`
	Msg    string    `json:"msg"`
	Peer   string    `json:"peer"`
	Reason string    `json:"reason"`
}

// said returns the lines with a message that the present process has logged.
func (s *speaker) said(message string) (lines []line) {
	s.rig.Helper()
	f, err := os.Open(s.log)
	s.rig.must(err)
	defer f.Close()
	_, err = f.Seek(s.from, io.SeekStart)
	s.rig.must(err)
	for all := bufio.NewScanner(f); all.Scan(); {
		var l line
		if bytes.Contains(all.Bytes(), []byte(message)) && json.Unmarshal(all.Bytes(), &l) == nil && l.Msg == message {
			lines = append(lines, l)
		}
	}
	return lines
}

// What the speaker logs of its sessions.
const (
	sessionUp   = "BGP session established"
	sessionDown = "BGP session ended"
)

// profiles is the folder into which profiles of the speaker go, if they are
// wanted. Profiling costs time and memory, so the figures of such a run do not
// count.
var profiles = os.Getenv("HERALD_BENCH_PROFILES")

// heap writes a profile of the speaker's memory, if that is wanted.
func (s *speaker) heap(name string) {
	s.rig.Helper()
	if profiles != "" {
		s.rig.must(s.fetch("heap?gc=1", name+".heap.pprof"))
	}
}

// profile writes a profile of the speaker's CPU during the time that begins now, if
// that is wanted; it returns at once.
func (s *speaker) profile(name string, during time.Duration) {
	if profiles == "" {
		return
	}
	go func() {
		if err := s.fetch(fmt.Sprintf("profile?seconds=%d", int(during.Seconds())), name+".cpu.pprof"); err != nil {
			s.rig.step("no profile: %v", err)
		}
	}()
}

// fetch asks the speaker for a profile and writes it to a file.
func (s *speaker) fetch(what, file string) error {
	resp, err := http.Get("http://127.0.0.1:6060/debug/pprof/" + what)
	if err != nil {
		return fmt.Errorf("fetch a profile: %w", err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("fetch a profile: %w", err)
	}
	return os.WriteFile(filepath.Join(profiles, file), raw, 0o644)
}
