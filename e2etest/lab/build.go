package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// kubeVersion is what the programs say they are; the modules do not carry it.
const kubeVersion = "v1.35.4"

// ldflags of the lab's own binaries. Keep them: a change makes Kubernetes link
// anew (the compiled packages stay in the cache as long as CGO_ENABLED=0 does).
var ldflags = strings.Join([]string{
	"-s", "-w",
	"-X k8s.io/component-base/version.gitVersion=" + kubeVersion,
	"-X k8s.io/component-base/version.gitMajor=1",
	"-X k8s.io/component-base/version.gitMinor=35",
}, " ")

// Build builds the binaries kube and lab into the module's bin folder. The first
// time takes minutes, afterwards seconds.
func Build(ctx context.Context, progress io.Writer) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	fmt.Fprintln(progress, "lab: building Kubernetes and the lab (minutes the first time, seconds afterwards)")
	return goBuild(ctx, root, progress, ldflags, filepath.Join(root, "bin")+string(filepath.Separator), "./kube", "./cmd/lab")
}

// BuildImage builds a main package of a module (its folder) as a static Linux
// binary for use as an image.
func BuildImage(ctx context.Context, moduleDir, pkg, out string, progress io.Writer) error {
	return goBuild(ctx, moduleDir, progress, "-s -w", out, pkg)
}

// goBuild runs go build without cgo, at low priority: a build must not starve what
// else runs on the machine.
func goBuild(ctx context.Context, dir string, progress io.Writer, ldflags, out string, pkgs ...string) error {
	args := append([]string{"go", "build", "-ldflags", ldflags, "-o", out}, pkgs...)
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Stdout, cmd.Stderr = progress, progress
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("in %s: go build %s: %w", dir, strings.Join(pkgs, " "), err)
	}
	return nil
}

// FindBin finds the folder with the binaries kube and lab: $HERALD_LAB_BIN, or
// bin in this module, or the folder of the running program.
func FindBin() (string, error) {
	candidates := []string{os.Getenv("HERALD_LAB_BIN")}
	if root, err := moduleRoot(); err == nil {
		candidates = append(candidates, filepath.Join(root, "bin"))
	}
	if self, err := os.Executable(); err == nil {
		candidates = append(candidates, filepath.Dir(self))
	}
	for _, dir := range candidates {
		if dir != "" && isFile(filepath.Join(dir, "kube")) && isFile(filepath.Join(dir, "lab")) {
			return filepath.Abs(dir)
		}
	}
	return "", errors.New("the binaries kube and lab are not built: run \"go run ./cmd/lab build\" in e2etest, or name their folder in HERALD_LAB_BIN")
}

// moduleRoot finds this module's folder from the working directory, which is
// inside of it for its tests and may be the product's root.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module e2etest: %w", err)
	}
	for {
		for _, candidate := range []string{dir, filepath.Join(dir, "e2etest")} {
			if isFile(filepath.Join(candidate, "kube", "main.go")) && isFile(filepath.Join(candidate, "go.mod")) {
				return candidate, nil
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the module e2etest is in no folder above the working directory")
		}
		dir = parent
	}
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}
