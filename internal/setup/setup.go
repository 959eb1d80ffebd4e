// Package setup connects the tools on this machine to a server: it changes their settings files, and undoes that.
//
// A change is planned first, so that it can be shown, and applied afterwards. A file is replaced as a whole or not at
// all, keeps its mode and its owner, and is followed if it is a symbolic link. Files beside it remember what was there
// before, until the tool is disconnected: see [BackupSuffix].
package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/kubeagents/kubeagents/internal/connect"
	"github.com/kubeagents/kubeagents/internal/hookfile"
)

// Suffixes of the files that connecting puts beside a settings file. Disconnecting removes them.
const (
	// BackupSuffix is that of a copy of the file as it was before.
	BackupSuffix = ".kubeagents-backup"
	// foldersSuffix is that of a list of the folders that had to be made for the file, the innermost first.
	foldersSuffix = ".kubeagents-folders"
)

// File is a settings file of a tool.
type File struct {
	Tool *connect.Client
	Path string

	shared bool // whether other users may read it
	editor hookfile.Editor
}

// NewFile returns the settings file of a tool at a path, for hooks that report to a server. A shared file, such as that
// of a project, can be read by all users if it is created.
func NewFile(tool *connect.Client, path string, shared bool, server connect.Server) File {
	return File{tool, path, shared, hookfile.New(tool.Name, tool.Lines(server), tool.Script)}
}

// Commands returns our commands in the file: see [hookfile.Editor.Commands].
func (f File) Commands() ([]hookfile.Command, error) {
	s, err := read(f.Path)
	if err != nil {
		return nil, err
	}
	commands, err := f.editor.Commands(s.text)
	if at, ok := errors.AsType[*hookfile.SyntaxError](err); ok {
		return nil, fmt.Errorf("%s:%d: %s", f.Path, at.Line, at.Message)
	}
	return commands, err
}

// Change is a change to a settings file.
type Change struct {
	File
	Old, New []byte          // the text before and after; nil for no file
	Events   hookfile.Change // the events whose hooks change

	was        state
	disconnect bool
	leftovers  bool // whether files beside it are to be removed
}

// Connect plans to put our hooks into the file. The error says in words why that is not possible.
func (f File) Connect() (Change, error) {
	s, err := read(f.Path)
	if err != nil {
		return Change{}, err
	}
	text, events, err := f.editor.Connect(s.text)
	if err != nil {
		return Change{}, f.explain(err)
	}
	c := Change{File: f, Old: s.text, New: text, Events: events, was: s}
	return c, c.check()
}

// Disconnect plans to take our hooks out of the file. The error says in words why that is not possible.
func (f File) Disconnect() (Change, error) {
	s, err := read(f.Path)
	if err != nil {
		return Change{}, err
	}
	beside, err := read(f.Path + BackupSuffix)
	if err != nil {
		return Change{}, err
	}
	backup := beside.text
	c := Change{File: f, Old: s.text, New: s.text, was: s, disconnect: true}
	switch text, err := f.editor.Disconnect(s.text, backup); {
	case err == nil:
		c.New = text
	case f.editor.Mentions(s.text):
		return Change{}, f.explain(err)
	}
	_, err = os.Lstat(f.Path + foldersSuffix)
	c.leftovers = backup != nil && s.text != nil || backup == nil && err == nil // a backup is kept if it is all that is left
	return c, c.check()
}

// explain puts the file and what to do before an error of its text.
func (f File) explain(err error) error {
	if at, ok := errors.AsType[*hookfile.SyntaxError](err); ok {
		return fmt.Errorf("%s:%d: %s; the file was left alone: correct it, then run the command again", f.Path, at.Line, at.Message)
	}
	return err
}

// IsNone reports whether there is nothing to do.
func (c Change) IsNone() bool { return c.isSame() && !c.leftovers }

func (c Change) isSame() bool { return bytes.Equal(c.Old, c.New) && (c.Old == nil) == (c.New == nil) }

// check returns an error if the file must not be changed.
func (c Change) check() error {
	if c.isSame() || c.Old == nil {
		return nil
	}
	if c.was.info.Mode().Perm()&0o222 == 0 {
		return fmt.Errorf("%s is read-only, so it was left alone: make it writable, or edit it where it comes from", c.Path)
	}
	f, err := os.OpenFile(c.was.path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("%s can't be written, so it was left alone: %w", c.Path, err)
	}
	return f.Close()
}

// Backup returns the path of the backup that Apply leaves, "" if it leaves none.
func (c Change) Backup() string {
	if c.disconnect || c.Old == nil || c.isOurs(c.Old) {
		return ""
	}
	return c.Path + BackupSuffix
}

// isOurs reports whether there is nothing in a text but our hooks.
func (c Change) isOurs(text []byte) bool {
	without, err := c.editor.Disconnect(text, nil)
	return err == nil && without == nil
}

// Apply makes the change. It changes nothing if the file is not as it was when the change was planned.
func (c Change) Apply() error {
	now, err := read(c.Path)
	if err != nil {
		return err
	}
	if !bytes.Equal(now.text, c.Old) || (now.text == nil) != (c.Old == nil) {
		return fmt.Errorf("%s was changed in the meantime: run the command again", c.Path)
	}
	if c.was = now; c.disconnect {
		return c.applyDisconnect()
	}
	return c.applyConnect()
}

func (c Change) applyConnect() error {
	if c.Old == nil {
		return c.create()
	}
	if err := c.backUp(); err != nil {
		return fmt.Errorf("back up %s: %w", c.Path, err)
	}
	return replace(c.was.path, c.New, c.was.info)
}

// create makes the file, and the folders that it needs.
func (c Change) create() error {
	file, folder := fs.FileMode(0o600), fs.FileMode(0o700)
	if c.shared {
		file, folder = 0o644, 0o755
	}
	made, err := makeFolders(filepath.Dir(c.Path), folder)
	if err == nil && len(made) > 0 {
		err = create(c.Path+foldersSuffix, []byte(strings.Join(made, "\n")+"\n"), file)
	}
	if err == nil {
		err = create(c.Path, c.New, file)
	}
	if err != nil {
		os.Remove(c.Path + foldersSuffix) //nolint:errcheck // the first error counts
		removeFolders(made)
	}
	return err
}

// backUp copies the file, unless there is a backup that has all of it but our hooks: that is the one to go back to.
func (c Change) backUp() error {
	path := c.Backup()
	if path == "" {
		return nil
	}
	if backup, err := read(path); err == nil && backup.text != nil && c.editor.IsConnected(c.Old) {
		if without, err := c.editor.Disconnect(c.Old, backup.text); err == nil && bytes.Equal(without, backup.text) {
			return nil
		}
	}
	return replace(path, c.Old, c.was.info)
}

// applyDisconnect writes or removes the file, and removes what connecting put beside it.
func (c Change) applyDisconnect() error {
	switch {
	case c.isSame():
	case c.New == nil:
		if err := os.Remove(c.was.path); err != nil {
			return err
		}
	default:
		if err := replace(c.was.path, c.New, c.was.info); err != nil {
			return err
		}
	}
	made, err := read(c.Path + foldersSuffix)
	if err != nil {
		return err
	}
	for _, suffix := range []string{BackupSuffix, foldersSuffix} {
		if err := os.Remove(c.Path + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if c.New == nil {
		removeFolders(c.foldersIn(string(made.text)))
	}
	return nil
}

// foldersIn returns the folders in a list that connecting left, as far as the file is in them.
func (c Change) foldersIn(list string) (folders []string) {
	for path := range strings.Lines(list) {
		path = strings.TrimRight(path, "\r\n")
		if strings.HasPrefix(c.Path, path+string(filepath.Separator)) {
			folders = append(folders, path)
		}
	}
	return folders
}
