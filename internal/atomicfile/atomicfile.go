// Package atomicfile writes a file completely or not at all, even if a crash, a
// kill, a full disk or a loss of power interrupts it.
package atomicfile

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// marker is part of the name of every unfinished file.
const marker = ".partial-"

// bufferSize keeps the number of system calls for large files low.
const bufferSize = 1 << 20

// Write atomically replaces the file name by one with the data that content
// writes. It writes a new file in the same folder, syncs it, and renames it over
// the old one; then it syncs the folder, so that the rename survives a loss of
// power. After an error the old file is unchanged, and no other file is left. An
// error of content is returned unchanged.
func Write(name string, content func(w io.Writer) error) error {
	return WriteWhen(name, content, func(publish func() error) error { return publish() })
}

// WriteWhen is Write for a file that others may write too: when the data is on disk, it
// calls ready, which decides. publish, which takes no time, makes the file appear. If
// ready does not call it, the old file stays.
func WriteWhen(name string, content func(w io.Writer) error, ready func(publish func() error) error) error {
	folder, base := filepath.Split(name)
	partial := filepath.Join(folder, "."+base+marker+rand.Text())
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, reason(err))
	}
	if err := fill(f, content); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, reason(err)), os.Remove(partial))
	}
	published := false
	err = ready(func() error {
		if err := os.Rename(partial, name); err != nil {
			return fmt.Errorf("write %s: %w", name, reason(err))
		}
		published = true
		return SyncFolder(folder)
	})
	if !published {
		if removed := os.Remove(partial); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}

// fill writes, syncs and closes f. It always closes f and returns the error of
// Close: some file systems report only then that the data did not fit.
func fill(f *os.File, content func(w io.Writer) error) error {
	b := bufio.NewWriterSize(f, bufferSize)
	err := content(b)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Symlink atomically makes name a symbolic link to target. It replaces an existing
// link or file.
func Symlink(target, name string) error {
	folder, base := filepath.Split(name)
	partial := filepath.Join(folder, "."+base+marker+rand.Text())
	if err := os.Symlink(target, partial); err != nil {
		return fmt.Errorf("link %s: %w", name, reason(err))
	}
	if err := os.Rename(partial, name); err != nil {
		return errors.Join(fmt.Errorf("link %s: %w", name, reason(err)), os.Remove(partial))
	}
	return SyncFolder(folder)
}

// SyncFolder makes the creation, renaming and removal of files in a folder
// durable.
func SyncFolder(folder string) error {
	if folder == "" {
		folder = "."
	}
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	err = f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// RemovePartial removes the unfinished files of killed processes from a folder.
// The caller makes sure that no other process writes there.
func RemovePartial(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && strings.Contains(entry.Name(), marker) {
			// A paused process that continues removes its own file.
			if err := os.Remove(filepath.Join(folder, entry.Name())); !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

// reason removes the name of the unfinished file from an error: it means nothing
// to a user.
func reason(err error) error {
	var path *os.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path) && strings.Contains(path.Path, marker):
		return path.Err
	case errors.As(err, &link) && strings.Contains(link.New+link.Old, marker):
		return link.Err
	}
	return err
}
