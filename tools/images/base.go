package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// files of the base image. The names are for people who look at a running
// process; the manifests choose the user by number.
var files = map[string]string{
	"etc/passwd": "root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
	"etc/group":  "root:x:0:\nnobody:x:65534:\n",
}

// serveBase starts a registry on loopback that holds the base image, and returns
// the image's reference and the function that ends the registry.
func serveBase(platforms []string) (ref string, end func() error, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("listen for ko: %w", err)
	}
	server := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	end = func() error {
		err := server.Close()
		if serveErr := <-done; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	}
	ref = listener.Addr().String() + "/base:latest"
	if err := pushBase(ref, platforms); err != nil {
		return "", nil, errors.Join(err, end())
	}
	return ref, end, nil
}

func pushBase(ref string, platforms []string) error {
	layer, err := baseLayer()
	if err != nil {
		return err
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		platform, err := v1.ParsePlatform(p)
		if err != nil || platform.OS == "" || platform.Architecture == "" {
			return fmt.Errorf("platform %q: expected OS/ARCHITECTURE, such as linux/amd64", p)
		}
		image, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), layer)
		if err != nil {
			return fmt.Errorf("make the base image: %w", err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			return fmt.Errorf("make the base image: %w", err)
		}
		config = config.DeepCopy()
		config.OS, config.Architecture, config.Variant = platform.OS, platform.Architecture, platform.Variant
		config.Config.Env = []string{"PATH=/usr/bin:/bin"}
		if image, err = mutate.ConfigFile(image, config); err != nil {
			return fmt.Errorf("make the base image: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		return fmt.Errorf("name the base image: %w", err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		return fmt.Errorf("put the base image into our registry: %w", err)
	}
	return nil
}

func baseLayer() (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	write := func(h *tar.Header, content string) error {
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err := io.Copy(w, strings.NewReader(content))
		return err
	}
	// One order, no times: the same image at every build.
	err := write(&tar.Header{Name: "etc/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	for _, path := range []string{"etc/group", "etc/passwd"} {
		content := files[path]
		err = errors.Join(err, write(&tar.Header{Name: path, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content))
	}
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, fmt.Errorf("make the layer of the base image: %w", err)
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		tarball.WithMediaType(types.OCILayer))
}
