package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// EchoImage is the workload of the demo and the tests: a server that says which
// pod it is and which client it saw.
const EchoImage = "ghcr.io/heraldlb/echo"

// builtImages are the images that the lab builds from this repository: name as in
// the manifests, the module's folder seen from this one, and main package.
var builtImages = []struct{ name, module, pkg string }{
	{"ghcr.io/heraldlb/controller", "..", "./controller"},
	{"ghcr.io/heraldlb/speaker", "..", "./speaker"},
	{EchoImage, ".", "./echo"},
}

// BuildImages builds the repository's images and writes the map of them beside
// the lab's own binaries, where Up finds it.
func BuildImages(ctx context.Context, progress io.Writer) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	fmt.Fprintln(progress, "lab: building the images controller, speaker and echo")
	images := map[string]string{}
	for _, image := range builtImages {
		out := filepath.Join(root, "bin", "images", filepath.Base(image.pkg))
		if err := BuildImage(ctx, filepath.Join(root, image.module), image.pkg, out, progress); err != nil {
			return fmt.Errorf("build image %s: %w", image.name, err)
		}
		images[image.name] = out
	}
	return writeImages(filepath.Join(root, "bin", imagesName), images)
}

// imagesName is the file of the map, in a lab's folder and in BinDir.
const imagesName = "images.json"

// ImagesFile is the JSON object of image names and binaries, which node
// agents read whenever they start a container.
func ImagesFile(stateDir string) string { return filepath.Join(stateDir, imagesName) }

// writeImages replaces a map of images in one step.
func writeImages(path string, images map[string]string) error {
	if images == nil {
		images = map[string]string{}
	}
	raw, err := json.MarshalIndent(images, "", "  ")
	if err != nil {
		return fmt.Errorf("write the map of images: %w", err)
	}
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the map of images: %w", err)
	}
	return os.Rename(path+".new", path)
}

// ReadImages reads a map of images from a file. Paths in it that are not absolute
// are taken from the file's folder.
func ReadImages(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the map of images: %w", err)
	}
	images := map[string]string{}
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("read the map of images %s: want an object of image name to path: %w", path, err)
	}
	for name, binary := range images {
		if !filepath.IsAbs(binary) {
			images[name] = filepath.Join(filepath.Dir(path), binary)
		}
	}
	return images, nil
}

// withBuilt adds the images that were built beside the lab's binaries, as far as
// the options do not name them otherwise.
func (o Options) withBuilt() (map[string]string, error) {
	images, err := ReadImages(filepath.Join(o.BinDir, imagesName))
	if errors.Is(err, fs.ErrNotExist) {
		return o.Images, nil
	}
	if err != nil {
		return nil, err
	}
	for name, image := range o.Images {
		images[name] = image
	}
	return images, nil
}

// AddImage makes a local static binary known to the lab as an image. Containers
// that start from now on use it.
func (c *Cluster) AddImage(name, binary string) error {
	if err := checkImage(name, binary); err != nil {
		return err
	}
	file := ImagesFile(c.State.Options.StateDir)
	images, err := ReadImages(file)
	if err != nil {
		return err
	}
	images[name] = binary
	return writeImages(file, images)
}

// checkImage checks that an image is a program.
func checkImage(name, path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("image %s: %w", name, err)
	}
	if !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return fmt.Errorf("image %s: %s is not an executable file", name, path)
	}
	return nil
}
