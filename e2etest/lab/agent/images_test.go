package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestImagesFile(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"speaker", "speaker-v2"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "images.json")
	at := time.Unix(1000, 0)
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "DIR", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	store := &images{path: path}
	check := func(name string, want Image, wantErr string) {
		t.Helper()
		got, err := store.find(name)
		if wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), wantErr) {
				t.Errorf("find(%s): error %v, want %q in it", name, err, wantErr)
			}
			return
		}
		if err != nil {
			t.Errorf("find(%s): %v", name, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Image{}, "ID")); diff != "" {
			t.Errorf("find(%s) (-want +got):\n%s", name, diff)
		}
	}
	check("x", Image{}, "look at the images file")
	write(`{"reg:5000/herald/speaker":"DIR/speaker","gone:1":"DIR/absent"}`)
	v1 := Image{Files: map[string]string{"/ko-app/speaker": dir + "/speaker"}, Entrypoint: []string{"/ko-app/speaker"}}
	check("reg:5000/herald/speaker", v1, "")
	check("reg:5000/herald/speaker:v0.1", v1, "")
	check("reg:5000/herald/speaker@sha256:abc", v1, "")
	check("reg:5000/herald/controller:v1", Image{}, `image "reg:5000/herald/controller:v1" is not in`)
	check("gone:1", Image{}, "absent: no such file")
	// An upgrade: the same name leads to another binary, and an exact tag wins.
	write(`{"reg:5000/herald/speaker":"DIR/speaker-v2","reg:5000/herald/speaker:old":{"files":{"/s":"DIR/speaker"},"entrypoint":["/s","-x"],"user":"65532","tmp":true}}`)
	check("reg:5000/herald/speaker:v0.2", Image{Files: map[string]string{"/ko-app/speaker-v2": dir + "/speaker-v2"}, Entrypoint: []string{"/ko-app/speaker-v2"}}, "")
	check("reg:5000/herald/speaker:old", Image{Files: map[string]string{"/s": dir + "/speaker"}, Entrypoint: []string{"/s", "-x"}, User: "65532", Tmp: true}, "")
	write(`["speaker"]`)
	check("reg:5000/herald/speaker", Image{}, "expected an object from image names")
}
