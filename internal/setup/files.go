package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// state is a file as it was found.
type state struct {
	path string // that links lead to
	text []byte // nil if there is no file
	info fs.FileInfo
}

// maxSize is the maximum size of a settings file, in bytes.
const maxSize = 16 << 20

// read reads the file that a path leads to, if it exists. The error says in words why it can't be used.
func read(path string) (s state, err error) {
	s.path, err = filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if target, err := os.Readlink(path); err == nil {
			return s, fmt.Errorf("%s is a link to %s, which does not exist: create that file, or remove the link", path, target)
		}
		return state{path: path}, nil
	}
	if err != nil {
		return s, err
	}
	if s.info, err = os.Stat(s.path); err != nil {
		return s, err
	}
	if !s.info.Mode().IsRegular() {
		return s, fmt.Errorf("%s is not a file", path)
	}
	if s.info.Size() > maxSize {
		return s, fmt.Errorf("%s is larger than %d MiB, so it was left alone: no tool has such settings", path, maxSize>>20)
	}
	if s.text, err = os.ReadFile(s.path); err != nil {
		return s, err
	}
	if s.text == nil {
		s.text = []byte{}
	}
	return s, nil
}

// replace makes text the content of the file at a path, which is not a link, in one step: whatever happens, the file has
// its old text or its new one. It gets the mode of info and, where possible, the owner.
func replace(path string, text []byte, info fs.FileInfo) error {
	return write(path, text, info.Mode().Perm(), info)
}

// create creates a file that belongs to the owner of its folder.
func create(path string, text []byte, mode fs.FileMode) error {
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return err
	}
	return write(path, text, mode, folder)
}

func write(path string, text []byte, mode fs.FileMode, owner fs.FileInfo) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		chown(f.Name(), owner)
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	return nil
}

// syncFolder makes a rename in a folder durable, on systems that can.
func syncFolder(path string) {
	f, err := os.Open(path) //nolint:gosec // the folder of a settings file
	if err != nil {
		return
	}
	f.Sync()  //nolint:errcheck // the file is complete either way
	f.Close() //nolint:errcheck // only read from
}

// makeFolders makes a folder and those that it is in, and returns those that it had to make, the innermost first. They
// belong to the owner of the folder that exists.
func makeFolders(path string, mode fs.FileMode) (made []string, err error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", path)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) || filepath.Dir(path) == path {
		return nil, err
	}
	made, err = makeFolders(filepath.Dir(path), mode)
	if err != nil {
		return made, err
	}
	parent, err := os.Stat(filepath.Dir(path))
	if err != nil {
		return made, err
	}
	if err := os.Mkdir(path, mode); err != nil {
		return made, err
	}
	chown(path, parent)
	return append([]string{path}, made...), os.Chmod(path, mode) // the umask may be stricter
}

// removeFolders removes those of the folders, the innermost first, that are empty.
func removeFolders(paths []string) {
	for _, path := range paths {
		if os.Remove(path) != nil {
			return
		}
	}
}
