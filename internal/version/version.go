// Package version knows what was built: the release, the commit and the Go
// version. It reads them from the binary itself and asks nobody.
//
// The start line of both binaries and the images' labels use it.
package version

import (
	"runtime"
	"runtime/debug"
)

// release is set by the linker for release builds:
//
//	-ldflags "-X github.com/heraldlb/herald/internal/version.release=v0.1.0"
var release string

// Info says what was built.
type Info struct {
	// Version is the release, the module's version, or "devel".
	Version string
	// Commit is the commit's hash, with "-dirty" when files were changed, or
	// "unknown" when the build had no access to the repository.
	Commit string
	// GoVersion is the version of the Go tool chain.
	GoVersion string
}

// Get returns what this binary was built from.
func Get() Info {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		build = &debug.BuildInfo{}
	}
	return from(release, build)
}

func from(release string, build *debug.BuildInfo) Info {
	info := Info{Version: release, Commit: "unknown", GoVersion: build.GoVersion}
	if info.GoVersion == "" {
		info.GoVersion = runtime.Version()
	}
	if info.Version == "" {
		info.Version = build.Main.Version
	}
	if info.Version == "" || info.Version == "(devel)" {
		info.Version = "devel"
	}
	dirty := false
	for _, s := range build.Settings {
		switch s.Key {
		case "vcs.revision":
			info.Commit = s.Value
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty {
		info.Commit += "-dirty"
	}
	return info
}
