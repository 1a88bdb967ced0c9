package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// owner is whom the files of a volume belong to.
type owner struct {
	user  int  // -1 keeps root
	group int  // -1 keeps root
	token bool // the volume holds a token, which only its owner may read
}

const dataLink = "..data"

// writeVolume makes dir hold exactly the files, all at once: they are written
// into a fresh directory beside the current one, and ..data, a symbolic link
// through which every visible name leads, is swapped by a rename. A reader sees
// the old content or the new, never a mix. It reports whether anything changed.
func writeVolume(dir string, files payload, o owner) (changed bool, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	link := filepath.Join(dir, dataLink)
	old, err := os.Readlink(link)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	if old != "" && sameFiles(filepath.Join(dir, old), files) {
		return false, nil
	}
	fresh, err := os.MkdirTemp(dir, "..")
	if err != nil {
		return false, err
	}
	if err := fill(fresh, files, o); err != nil {
		return false, errors.Join(err, os.RemoveAll(fresh))
	}
	tmp := link + "_tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return false, err
	}
	if err := os.Symlink(filepath.Base(fresh), tmp); err != nil {
		return false, err
	}
	if err := os.Rename(tmp, link); err != nil {
		return false, err
	}
	if err := linkNames(dir, files); err != nil {
		return false, err
	}
	if old == "" {
		return true, nil
	}
	return true, os.RemoveAll(filepath.Join(dir, old))
}

func fill(dir string, files payload, o owner) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	for name, f := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		mode := os.FileMode(f.mode)
		if o.token {
			mode = 0o600
		}
		if o.group >= 0 {
			mode |= 0o440 // what the group of a read-only volume gets
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, o.user, o.group); err != nil {
			return err
		}
		// After the change of owner, which clears bits of the mode.
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	return nil
}

// linkNames keeps one link per first path element that the files use.
func linkNames(dir string, files payload) error {
	want := map[string]bool{}
	for name := range files {
		head, _, _ := strings.Cut(name, "/")
		want[head] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), ".."):
		case want[e.Name()]:
			delete(want, e.Name())
		default:
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	for head := range want {
		if err := os.Symlink(filepath.Join(dataLink, head), filepath.Join(dir, head)); err != nil {
			return err
		}
	}
	return nil
}

// sameFiles says whether dir holds exactly the files' names and content.
func sameFiles(dir string, files payload) bool {
	found := 0
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := files[name]
		if !ok {
			return fmt.Errorf("%s is not wanted any more", name)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if string(b) != string(f.data) {
			return fmt.Errorf("%s has changed", name)
		}
		found++
		return nil
	})
	return err == nil && found == len(files)
}
