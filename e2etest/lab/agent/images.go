package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Image is what stands behind an image name in the lab: files of this machine.
type Image struct {
	// Files maps a path in the container to a file or directory of this machine.
	Files map[string]string `json:"files"`
	// Entrypoint is run when the container names no command.
	Entrypoint []string `json:"entrypoint"`
	// Env is NAME=value pairs; without PATH the usual one is set.
	Env []string `json:"env,omitempty"`
	// User is "uid" or "uid:gid"; empty is root.
	User string `json:"user,omitempty"`
	// WorkingDir is where the command starts; empty is /.
	WorkingDir string `json:"workingDir,omitempty"`
	// Tmp says that the image has a /tmp that everybody may write.
	Tmp bool `json:"tmp,omitempty"`
	// ID changes when one of the files does.
	ID string `json:"-"`
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/ko-app"

// UnmarshalJSON accepts a plain string too: the path of the image's one binary,
// which then stands where ko puts it.
func (i *Image) UnmarshalJSON(b []byte) error {
	var binary string
	if json.Unmarshal(b, &binary) == nil {
		inside := "/ko-app/" + filepath.Base(binary)
		*i = Image{Files: map[string]string{inside: binary}, Entrypoint: []string{inside}}
		return nil
	}
	type plain Image
	return json.Unmarshal(b, (*plain)(i))
}

// images is the image store: a JSON file, read again when it changes.
type images struct {
	path string

	mu      sync.Mutex // guards all following fields
	modTime time.Time
	size    int64
	byName  map[string]Image
}

// find returns the image of a name. A name with a tag or digest also matches an
// entry without it.
func (s *images) find(name string) (Image, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.read(); err != nil {
		return Image{}, err
	}
	for _, n := range []string{name, untagged(name)} {
		if img, ok := s.byName[n]; ok {
			return img.identified(n)
		}
	}
	return Image{}, fmt.Errorf("image %q is not in %s: add its name with the path of its binary", name, s.path)
}

func (s *images) read() error {
	st, err := os.Stat(s.path)
	if err != nil {
		return fmt.Errorf("look at the images file: %w", err)
	}
	if st.ModTime().Equal(s.modTime) && st.Size() == s.size {
		return nil
	}
	b, err := os.ReadFile(s.path)
	if err != nil {
		return fmt.Errorf("read the images file: %w", err)
	}
	var m map[string]Image
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("images file %s: expected an object from image names to paths or descriptions: %w", s.path, err)
	}
	s.byName, s.modTime, s.size = m, st.ModTime(), st.Size()
	return nil
}

// identified checks that the image's files are there and names their state.
func (i Image) identified(name string) (Image, error) {
	var newest time.Time
	for _, host := range i.Files {
		st, err := os.Stat(host)
		if err != nil {
			return Image{}, fmt.Errorf("image %q: %w", name, err)
		}
		if st.ModTime().After(newest) {
			newest = st.ModTime()
		}
	}
	i.ID = fmt.Sprintf("%s@lab:%d", name, newest.UnixNano())
	return i, nil
}

// untagged removes the digest and the tag of an image name.
func untagged(name string) string {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	return name
}
