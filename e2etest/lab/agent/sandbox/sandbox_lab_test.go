//go:build lab

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var reportBinary string

func TestMain(m *testing.M) {
	MaybeInit()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sandbox-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		reportBinary = filepath.Join(dir, "report")
		build := exec.Command("go", "build", "-o", reportBinary, "./testdata/report")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build the report binary: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// report mirrors testdata/report.
type report struct {
	PID, UID, GID int
	Groups        []int
	Args, Env     []string
	Hostname, Cwd string
	Status        map[string]string
	Links         []string
	Root, Mounts  []string
	Files         map[string]string
	WriteErrors   map[string]string
}

func startSpawner(t *testing.T) *Spawner {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes namespaces and mounts; run it as root")
	}
	s := NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func baseSpec(t *testing.T, argv ...string) *Spec {
	t.Helper()
	return &Spec{
		Rootfs:   t.TempDir(),
		Hostname: "pod-1",
		Mounts:   []Mount{{Source: reportBinary, Target: "/ko-app/report", ReadOnly: true}},
		Files:    []File{{Path: "/etc/passwd", Content: "root:x:0:0::/root:/\n", Mode: 0o644}},
		Identity: Identity{Caps: DefaultCaps},
		Argv:     append([]string{"report"}, argv...),
		Env:      []string{"PATH=/bin:/ko-app", "A=b"},
	}
}

func runReport(t *testing.T, s *Spawner, spec *Spec, netns *os.File) report {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := s.Start(spec, netns, out)
	if err != nil {
		t.Fatal(err)
	}
	waitExit(t, p, 0)
	return decodeReport(t, out.Name())
}

func waitExit(t *testing.T, p *Process, want int) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the process did not end within 20 s")
	}
	if got := p.Exit().Code; got != want {
		t.Fatalf("exit code %d, want %d", got, want)
	}
}

func decodeReport(t *testing.T, path string) report {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("report %q: %v", b, err)
	}
	return r
}

func capField(t *testing.T, r report, name string) CapSet {
	t.Helper()
	v, err := strconv.ParseUint(r.Status[name], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return CapSet(v)
}

func TestRootHasExactlyTheGivenCapabilities(t *testing.T) {
	spec := baseSpec(t)
	spec.Caps = 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN
	spec.NoNewPrivs = true
	r := runReport(t, startSpawner(t), spec, nil)
	for _, set := range []string{"CapBnd", "CapPrm", "CapEff"} {
		if got := capField(t, r, set); got != spec.Caps {
			t.Errorf("%s is %q, want %q", set, got, spec.Caps)
		}
	}
	for _, set := range []string{"CapInh", "CapAmb"} {
		if got := capField(t, r, set); got != 0 {
			t.Errorf("%s is %q, want none", set, got)
		}
	}
	if r.Status["NoNewPrivs"] != "1" {
		t.Errorf("NoNewPrivs is %q, want 1", r.Status["NoNewPrivs"])
	}
	if r.PID != 1 || r.UID != 0 || r.Hostname != "pod-1" || r.Cwd != "/" {
		t.Errorf("pid %d, uid %d, hostname %q, cwd %q; want 1, 0, pod-1, /", r.PID, r.UID, r.Hostname, r.Cwd)
	}
}

func TestOtherUserLosesCapabilitiesAtExec(t *testing.T) {
	spec := baseSpec(t, "write:/x", "/etc/passwd")
	spec.Identity = Identity{UID: 65532, GID: 65531, Groups: []uint32{4, 7}, Caps: 1 << unix.CAP_NET_RAW}
	r := runReport(t, startSpawner(t), spec, nil)
	if r.UID != 65532 || r.GID != 65531 || !slices.Equal(r.Groups, []int{4, 7}) {
		t.Errorf("uid %d gid %d groups %v, want 65532 65531 [4 7]", r.UID, r.GID, r.Groups)
	}
	if got := capField(t, r, "CapBnd"); got != spec.Caps {
		t.Errorf("bounding set %q, want %q", got, spec.Caps)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapInh", "CapAmb"} {
		if got := capField(t, r, set); got != 0 {
			t.Errorf("%s is %q, want none: without ambient capabilities exec loses them", set, got)
		}
	}
	if !strings.Contains(r.WriteErrors["/x"], "permission denied") {
		t.Errorf("writing to / as user 65532 gave %q, want permission denied", r.WriteErrors["/x"])
	}
	if !strings.HasPrefix(r.Files["/etc/passwd"], "root:") {
		t.Errorf("/etc/passwd reads %q", r.Files["/etc/passwd"])
	}
}

func TestRootFileSystemHoldsTheImageAndNothingElse(t *testing.T) {
	spec := baseSpec(t, "write:/new", "write:/data/f", "write:/conf/f", "write:/proc/sys/kernel/hostname", "write:/ko-app/report")
	data, conf := t.TempDir(), t.TempDir()
	spec.Mounts = append(spec.Mounts, Mount{Source: data, Target: "/data"}, Mount{Source: conf, Target: "/conf", ReadOnly: true})
	spec.ReadOnlyRoot = true
	r := runReport(t, startSpawner(t), spec, nil)
	want := []string{"conf", "data", "dev", "etc", "ko-app", "proc", "sys"}
	if !slices.Equal(r.Root, want) {
		t.Errorf("root holds %v, want %v", r.Root, want)
	}
	for path, wantErr := range map[string]string{
		"/new": "read-only file system", "/conf/f": "read-only file system", "/data/f": "<nil>",
		"/proc/sys/kernel/hostname": "read-only file system", "/ko-app/report": "read-only file system",
	} {
		if got := r.WriteErrors[path]; !strings.HasSuffix(got, wantErr) {
			t.Errorf("writing %s gave %q, want %q", path, got, wantErr)
		}
	}
	if _, err := os.Stat(filepath.Join(data, "f")); err != nil {
		t.Errorf("the volume did not get the file: %v", err)
	}
	for _, m := range r.Mounts {
		if fields := strings.Fields(m); strings.HasPrefix(fields[1], os.TempDir()) {
			t.Errorf("the host's mount %s is visible", m)
		}
	}
	if entries, err := os.ReadDir(spec.Rootfs); err != nil || len(entries) != 0 {
		t.Errorf("on the host the root directory holds %v (%v), want nothing", entries, err)
	}
}

func TestProcessJoinsTheNetworkNamespace(t *testing.T) {
	ns := newNetns(t)
	r := runReport(t, startSpawner(t), baseSpec(t), ns)
	if !slices.Equal(r.Links, []string{"lo"}) {
		t.Errorf("links %v, want only lo", r.Links)
	}
}

func newNetns(t *testing.T) *os.File {
	t.Helper()
	type result struct {
		f   *os.File
		err error
	}
	c := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread ends in the new namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			c <- result{nil, err}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		c <- result{f, err}
	}()
	r := <-c
	if r.err != nil {
		t.Fatal(r.err)
	}
	t.Cleanup(func() { r.f.Close() })
	return r.f
}

func TestTerminationReachesTheProcess(t *testing.T) {
	s := startSpawner(t)
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p, err := s.Start(baseSpec(t, "sleep"), nil, out)
	if err != nil {
		t.Fatal(err)
	}
	waitOutput(t, out.Name(), "ready")
	r := execReport(t, s, p)
	if r.PID == 1 || r.Hostname != "pod-1" || !slices.Contains(r.Root, "ko-app") {
		t.Errorf("a command in the container sees pid %d, host %s, root %v", r.PID, r.Hostname, r.Root)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	waitExit(t, p, 7)
}

// waitOutput waits until the file holds text: until then the process may not
// have set its signal handler.
func waitOutput(t *testing.T, path, text string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), text) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the process did not write %q within 20 s", text)
		}
	}
}

func execReport(t *testing.T, s *Spawner, p *Process) report {
	t.Helper()
	var out bytes.Buffer
	code, err := s.Exec(context.Background(), p, ExecOptions{
		Identity: Identity{UID: 9, GID: 9}, Argv: []string{"report"}, Env: []string{"PATH=/ko-app"}, Stdout: &out,
	})
	if err != nil || code != 0 {
		t.Fatalf("exec: code %d, %v", code, err)
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("report %q: %v", out.String(), err)
	}
	if r.UID != 9 || capField(t, r, "CapBnd") != 0 {
		t.Errorf("the command ran as uid %d with bounding set %q, want 9 and none", r.UID, capField(t, r, "CapBnd"))
	}
	return r
}

func TestProcessesEndWithTheSpawner(t *testing.T) {
	s := NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.Run(ctx)
	spec := baseSpec(t, "sleep")
	spec.Identity = Identity{UID: 65532, GID: 65532} // a change of user must not lose the parent-death signal
	p, err := s.Start(spec, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	waitExit(t, p, 128+int(syscall.SIGKILL))
	if _, err := s.Start(spec, nil, nil); err == nil {
		t.Error("a spawner that has ended started a process")
	}
}

func TestFailureBeforeExecIsExplained(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Spec)
		want   string
	}{
		{"a command that the image lacks", func(s *Spec) { s.Argv = []string{"/speaker"} }, `command "/speaker" is not in the image`},
		{"a command that PATH lacks", func(s *Spec) { s.Argv = []string{"sh"} }, `command "sh" is not in the image's PATH`},
		{"a volume that is missing", func(s *Spec) { s.Mounts = append(s.Mounts, Mount{Source: "/no/such", Target: "/v"}) }, "/no/such: no such file"},
		{"no command at all", func(s *Spec) { s.Argv = nil }, "no command"},
	}
	s := startSpawner(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := baseSpec(t)
			tt.change(spec)
			_, err := s.Start(spec, nil, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	s := NewSpawner()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go s.Run(ctx)
	dir := b.TempDir()
	for b.Loop() {
		p, err := s.Start(&Spec{
			Rootfs: dir, Mounts: []Mount{{Source: reportBinary, Target: "/report"}},
			Identity: Identity{Caps: DefaultCaps}, Argv: []string{"/report"}, Env: []string{"A=b"},
		}, nil, nil)
		if err != nil {
			b.Fatal(err)
		}
		<-p.Done()
	}
}
