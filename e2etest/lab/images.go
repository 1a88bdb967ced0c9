package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// WriteImages replaces the map of image names to binaries of a lab. Containers
// that start from now on use it.
func WriteImages(stateDir string, images map[string]string) error {
	if images == nil {
		images = map[string]string{}
	}
	raw, err := json.MarshalIndent(images, "", "  ")
	if err != nil {
		return fmt.Errorf("write the map of images: %w", err)
	}
	path := ImagesFile(stateDir)
	if err := os.WriteFile(path+".new", append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the map of images: %w", err)
	}
	return os.Rename(path+".new", path)
}

// ReadImages reads a map of image names to binaries from a file; a file that does
// not exist is an empty map.
func ReadImages(path string) (map[string]string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the map of images: %w", err)
	}
	images := map[string]string{}
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("read the map of images %s: want an object of image name to path: %w", path, err)
	}
	return images, nil
}

// AddImage makes a local binary known to the lab as an image.
func (c *Cluster) AddImage(name, path string) error {
	file := ImagesFile(c.State.Options.StateDir)
	images, err := ReadImages(file)
	if err != nil {
		return err
	}
	images[name] = path
	return WriteImages(c.State.Options.StateDir, images)
}
