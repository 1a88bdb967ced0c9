// Images builds the product's container images as OCI archives, one file for
// each program with all platforms in it, on a machine without a container
// engine and without a registry. It knows how to call ko, and nothing of what
// is in the images.
//
//	cd tools && go run ./images -version v0.1.0 -out ../dist
//
// Why it exists: ko builds on a base image, and fetches that through the
// registry protocol only. So this program is a registry for as long as ko runs:
// it listens on loopback, holds one image in memory (two lines of user names,
// which is all that a static binary needs), and ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// programs are the images' names with the packages that they are built from.
var programs = []struct{ name, pkg string }{
	{"controller", "./controller"},
	{"speaker", "./speaker"},
}

// repository is where the images belong.
const repository = "ghcr.io/heraldlb/"

func main() {
	version := flag.String("version", "devel", "`release` that the images are tagged with")
	out := flag.String("out", "../dist", "`folder` for the archives")
	platforms := flag.String("platforms", "linux/amd64,linux/arm64", "comma `list` of platforms")
	root := flag.String("root", "..", "`folder` of the product's module")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := build(ctx, *root, *out, *version, strings.Split(*platforms, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		stop()
		os.Exit(1)
	}
}

func build(ctx context.Context, root, out, version string, platforms []string) (err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("make the folder for the archives: %w", err)
	}
	base, end, err := serveBase(platforms)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	tmp, err := os.MkdirTemp("", "herald-images-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	for _, p := range programs {
		layout := filepath.Join(tmp, p.name)
		if err := ko(ctx, root, p.pkg, base, layout, repository+p.name, version, platforms); err != nil {
			return err
		}
		archive := filepath.Join(out, p.name+".oci.tar")
		if err := nameImage(layout, repository+p.name+":"+version); err != nil {
			return err
		}
		if err := pack(layout, archive); err != nil {
			return err
		}
		if err := check(archive, platforms); err != nil {
			return err
		}
		info, err := os.Stat(archive)
		if err != nil {
			return fmt.Errorf("look at the archive: %w", err)
		}
		fmt.Printf("%s: %s%s:%s for %s, %.1f MB\n", archive, repository, p.name, version, strings.Join(platforms, " and "), float64(info.Size())/1e6)
	}
	return nil
}

// ko builds one package into an OCI layout.
func ko(ctx context.Context, root, pkg, base, layout, repo, version string, platforms []string) error {
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=tools/go.mod", "ko", "build",
		"--push=false", "--bare", "--sbom=none",
		"--platform="+strings.Join(platforms, ","),
		"--oci-layout-path="+layout,
		"--image-label=org.opencontainers.image.source=https://github.com/heraldlb/herald",
		"--image-label=org.opencontainers.image.version="+version,
		pkg)
	cmd.Dir = root
	// ko remembers bases by their name; this one's registry is gone tomorrow.
	cmd.Env = append(os.Environ(),
		"KO_DOCKER_REPO="+repo, "KO_DEFAULTBASEIMAGE="+base, "VERSION="+version, "CGO_ENABLED=0", "KO_CONFIG_PATH=.ko.yaml")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s with ko: %w", pkg, err)
	}
	return nil
}
