package version

import (
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFrom(t *testing.T) {
	settings := func(kv ...string) []debug.BuildSetting {
		var out []debug.BuildSetting
		for i := 0; i < len(kv); i += 2 {
			out = append(out, debug.BuildSetting{Key: kv[i], Value: kv[i+1]})
		}
		return out
	}
	tests := []struct {
		name    string
		release string
		build   debug.BuildInfo
		want    Info
	}{
		{
			name:    "a release build says its release",
			release: "v0.1.0",
			build: debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "v0.0.0-2026"},
				Settings: settings("vcs.revision", "abc", "vcs.modified", "false")},
			want: Info{Version: "v0.1.0", Commit: "abc", GoVersion: "go1.26.8"},
		},
		{
			name:  "a build with changed files says so",
			build: debug.BuildInfo{GoVersion: "go1.26.8", Main: debug.Module{Version: "(devel)"}, Settings: settings("vcs.revision", "abc", "vcs.modified", "true")},
			want:  Info{Version: "devel", Commit: "abc-dirty", GoVersion: "go1.26.8"},
		},
		{
			name: "a build that knows nothing still answers",
			want: Info{Version: "devel", Commit: "unknown", GoVersion: runtime.Version()},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, from(tt.release, &tt.build)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
