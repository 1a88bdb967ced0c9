package main

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestBaseIsServedForEachPlatform(t *testing.T) {
	ref, end, err := serveBase([]string{"linux/amd64", "linux/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(ref, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range manifest.Manifests {
		got = append(got, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, got); diff != "" {
		t.Errorf("platforms (-want +got)\n%s", diff)
	}
	if err := end(); err != nil {
		t.Errorf("end the registry: %v", err)
	}
	if _, err := remote.Index(tag); err == nil {
		t.Error("the registry still answers after its end")
	}
}

func TestWrongPlatformIsNamed(t *testing.T) {
	_, _, err := serveBase([]string{"linux"})
	if err == nil || !strings.Contains(err.Error(), `platform "linux": expected OS/ARCHITECTURE`) {
		t.Errorf("got error %v", err)
	}
}

// archiveOf packs an index with an image for each platform, as ko writes it.
func archiveOf(t *testing.T, entrypoint []string, platforms ...string) string {
	t.Helper()
	dir := t.TempDir()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		image, err := mutate.Config(mutate.MediaType(empty.Image, types.OCIManifestSchema1), v1.Config{Entrypoint: entrypoint, WorkingDir: "/" + p})
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	path, err := layout.Write(filepath.Join(dir, "layout"), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendIndex(index); err != nil {
		t.Fatal(err)
	}
	if err := nameImage(string(path), "example.com/speaker:v1"); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "speaker.oci.tar")
	if err := pack(string(path), archive); err != nil {
		t.Fatal(err)
	}
	return archive
}

func TestArchiveIsChecked(t *testing.T) {
	both := []string{"linux/arm64", "linux/amd64"}
	for _, tt := range []struct {
		name    string
		archive string
		want    string
	}{
		{"complete", archiveOf(t, []string{"/ko-app/speaker"}, "linux/amd64", "linux/arm64"), ""},
		{"a platform is missing", archiveOf(t, []string{"/ko-app/speaker"}, "linux/amd64"), "is for [linux/amd64], expected [linux/amd64 linux/arm64]"},
		{"nothing to start", archiveOf(t, nil, "linux/amd64", "linux/arm64"), "expected one program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := check(tt.archive, both)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestArchiveCarriesTheNameAndNoTime(t *testing.T) {
	archive := archiveOf(t, []string{"/x"}, "linux/amd64")
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if err != nil {
			break
		}
		if h.ModTime.Unix() != 0 || h.Uid != 0 {
			t.Errorf("%s has time %v and owner %d", h.Name, h.ModTime, h.Uid)
		}
	}
	dir := t.TempDir()
	if err := unpack(archive, dir); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(index), `"org.opencontainers.image.ref.name":"example.com/speaker:v1"`) {
		t.Errorf("the name is not in %s", index)
	}
}
