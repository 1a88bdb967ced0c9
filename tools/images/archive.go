package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// nameImage writes the image's reference into a layout's index, in the two
// annotations that containerd and the others look for at an import.
func nameImage(layout, ref string) error {
	path := filepath.Join(layout, "index.json")
	var index v1.IndexManifest
	if err := readJSON(os.DirFS(layout), "index.json", &index); err != nil {
		return err
	}
	if len(index.Manifests) != 1 {
		return fmt.Errorf("%s holds %d images, expected 1", path, len(index.Manifests))
	}
	index.Manifests[0].Annotations = map[string]string{
		"org.opencontainers.image.ref.name": ref,
		"io.containerd.image.name":          ref,
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, raw, 0o644)
}

// pack writes a layout's files into one archive, without times and owners, so
// that the same content is the same archive.
func pack(layout, archive string) (err error) {
	f, err := os.Create(archive + ".new")
	if err != nil {
		return fmt.Errorf("make the archive: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), archive)
		}
	}()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(layout, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(layout, path)
		if err != nil {
			return err
		}
		content, err := os.Open(path)
		if err != nil {
			return err
		}
		defer content.Close()
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, Size: info.Size(), Typeflag: tar.TypeReg}); err != nil {
			return err
		}
		_, err = io.Copy(w, content)
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return fmt.Errorf("write %s: %w", archive, err)
	}
	return nil
}

// check reads an archive again and makes sure that it holds one image for each
// platform, each with a program to start and every blob that it names.
func check(archive string, platforms []string) (err error) {
	dir, err := os.MkdirTemp("", "herald-check-")
	if err != nil {
		return fmt.Errorf("make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := unpack(archive, dir); err != nil {
		return fmt.Errorf("read %s again: %w", archive, err)
	}
	layout := os.DirFS(dir)
	var top, index v1.IndexManifest
	if err := readJSON(layout, "index.json", &top); err != nil {
		return err
	}
	if err := readJSON(layout, blob(top.Manifests[0].Digest), &index); err != nil {
		return err
	}
	var found []string
	for _, d := range index.Manifests {
		if d.Platform == nil {
			return fmt.Errorf("%s: the image %s has no platform", archive, d.Digest)
		}
		found = append(found, d.Platform.OS+"/"+d.Platform.Architecture)
		if err := checkImage(layout, d.Digest); err != nil {
			return fmt.Errorf("%s: the image for %s: %w", archive, d.Platform, err)
		}
	}
	want := slices.Sorted(slices.Values(platforms))
	if slices.Sort(found); !slices.Equal(found, want) {
		return fmt.Errorf("%s is for %v, expected %v", archive, found, want)
	}
	return nil
}

func checkImage(layout fs.FS, digest v1.Hash) error {
	var manifest v1.Manifest
	if err := readJSON(layout, blob(digest), &manifest); err != nil {
		return err
	}
	for _, l := range manifest.Layers {
		info, err := fs.Stat(layout, blob(l.Digest))
		if err != nil {
			return err
		}
		if info.Size() != l.Size {
			return fmt.Errorf("layer %s has %d bytes, expected %d", l.Digest, info.Size(), l.Size)
		}
	}
	var config v1.ConfigFile
	if err := readJSON(layout, blob(manifest.Config.Digest), &config); err != nil {
		return err
	}
	if len(config.Config.Entrypoint) != 1 {
		return fmt.Errorf("its entry point is %q, expected one program", config.Config.Entrypoint)
	}
	return nil
}

func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

func readJSON(layout fs.FS, path string, into any) error {
	raw, err := fs.ReadFile(layout, path)
	if err != nil {
		return fmt.Errorf("read the layout: %w", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func unpack(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := root.MkdirAll(filepath.Dir(h.Name), 0o755); err != nil {
			return err
		}
		out, err := root.Create(h.Name)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
}
