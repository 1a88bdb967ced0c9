package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestSecretVolumeContent(t *testing.T) {
	s := &corev1.Secret{Data: map[string][]byte{"a": []byte("1"), "b": []byte("2")}}
	tests := []struct {
		name     string
		secret   *corev1.Secret
		items    []corev1.KeyToPath
		optional *bool
		want     map[string]string
		err      string
	}{
		{name: "all keys", secret: s, want: map[string]string{"a": "1", "b": "2"}},
		{name: "chosen keys at chosen paths", secret: s, items: []corev1.KeyToPath{{Key: "b", Path: "x/y"}}, want: map[string]string{"x/y": "2"}},
		{name: "a missing key", secret: s, items: []corev1.KeyToPath{{Key: "c", Path: "c"}}, err: `Secret "s" has no key "c"`},
		{name: "a missing key of an optional volume", secret: s, optional: ptr.To(true), items: []corev1.KeyToPath{{Key: "c", Path: "c"}}, want: map[string]string{}},
		{name: "a missing Secret", err: `Secret "s" not found`},
		{name: "a missing optional Secret", optional: ptr.To(true), want: map[string]string{}},
		{name: "a path that leads out", secret: s, items: []corev1.KeyToPath{{Key: "a", Path: "../x"}}, err: "inside the volume"},
		{name: "a path that is ours", secret: s, items: []corev1.KeyToPath{{Key: "a", Path: "..data/x"}}, err: "inside the volume"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := secretPayload(tt.secret, "s", tt.items, nil, tt.optional)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q in it", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tt.want) {
				t.Errorf("%d files, want %d", len(got), len(tt.want))
			}
			for path, content := range tt.want {
				if string(got[path].data) != content {
					t.Errorf("%s holds %q, want %q", path, got[path].data, content)
				}
			}
		})
	}
}

func files(kv ...string) payload {
	p := payload{}
	for i := 0; i < len(kv); i += 2 {
		p[kv[i]] = payloadFile{[]byte(kv[i+1]), 0o640}
	}
	return p
}

func mustWrite(t *testing.T, dir string, p payload, wantChanged bool) {
	t.Helper()
	changed, err := writeVolume(dir, p, owner{user: -1, group: -1})
	if err != nil {
		t.Fatal(err)
	}
	if changed != wantChanged {
		t.Errorf("changed is %v, want %v", changed, wantChanged)
	}
}

func TestVolumeIsReplacedAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "v")
	mustWrite(t, dir, files("key", "1", "sub/old", "x"), true)
	mustWrite(t, dir, files("key", "1", "sub/old", "x"), false)
	// A reader that has the directory open keeps seeing one consistent state.
	before, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, dir, files("key", "2", "new", "y"), true)
	after, err := os.Readlink(filepath.Join(dir, "..data"))
	if err != nil {
		t.Fatal(err)
	}
	if before == after {
		t.Error("..data still names the old directory")
	}
	for path, want := range map[string]string{"key": "2", "new": "y"} {
		if b, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v; want %q", path, b, err, want)
		}
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") {
			names = append(names, e.Name())
		}
	}
	if got := strings.Join(names, " "); got != "key new" {
		t.Errorf("visible names %q, want %q: the old link must go", got, "key new")
	}
	if _, err := os.Stat(filepath.Join(dir, before)); !os.IsNotExist(err) {
		t.Errorf("the old directory is still there: %v", err)
	}
	mustWrite(t, dir, payload{}, true)
	mustWrite(t, dir, payload{}, false)
}

func TestVolumeModes(t *testing.T) {
	dir := t.TempDir()
	own := owner{user: os.Getuid(), group: os.Getgid()}
	if _, err := writeVolume(filepath.Join(dir, "grouped"), payload{"f": {[]byte("x"), 0o400}}, own); err != nil {
		t.Fatal(err)
	}
	own.token = true
	if _, err := writeVolume(filepath.Join(dir, "token"), payload{"f": {[]byte("x"), 0o644}}, own); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"grouped": 0o440, "token": 0o640} {
		st, err := os.Stat(filepath.Join(dir, name, "f"))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", name, st.Mode().Perm(), want)
		}
	}
}

func TestSubPathStaysInside(t *testing.T) {
	vol := t.TempDir()
	if err := os.Symlink("/etc", filepath.Join(vol, "out")); err != nil {
		t.Fatal(err)
	}
	if _, err := subPath(vol, "out"); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("error %v, want that the path leads out", err)
	}
	if got, err := subPath(vol, "../../made"); err != nil || got != filepath.Join(vol, "made") {
		t.Errorf("subPath = %q, %v; want it inside the volume", got, err)
	}
}

func TestTokenBelongsToTheCommonUser(t *testing.T) {
	user := func(pod *int64, containers ...*int64) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsUser: pod}}}
		for _, u := range containers {
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{SecurityContext: &corev1.SecurityContext{RunAsUser: u}})
		}
		return p
	}
	for _, tt := range []struct {
		name string
		pod  *corev1.Pod
		want int
	}{
		{"nobody says", user(nil, nil), -1},
		{"the pod says", user(ptr.To[int64](7), nil, nil), 7},
		{"all containers say the same", user(nil, ptr.To[int64](8), ptr.To[int64](8)), 8},
		{"they differ", user(ptr.To[int64](7), nil, ptr.To[int64](8)), -1},
	} {
		if got := commonUser(tt.pod); got != tt.want {
			t.Errorf("%s: user %d, want %d", tt.name, got, tt.want)
		}
	}
}
