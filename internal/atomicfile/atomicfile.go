// Package atomicfile writes files that are either whole or not there, whatever
// happens meanwhile: a crash, a kill, a full disk, the loss of power.
package atomicfile

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// marker is in the name of every file that is not yet whole.
const marker = ".partial-"

// bufferSize makes large files in few system calls.
const bufferSize = 1 << 20

// Write makes the file name hold what content writes, in place of what it held
// before. The new file is written beside the old one, synced, and renamed over it;
// then the folder is synced, so that the rename outlasts a loss of power. After an
// error the old file is as it was, and nothing is left beside it. An error of
// content is returned as it is.
func Write(name string, content func(w io.Writer) error) error {
	folder, base := filepath.Split(name)
	partial := filepath.Join(folder, "."+base+marker+rand.Text())
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, reason(err))
	}
	if err := fill(f, content); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, reason(err)), os.Remove(partial))
	}
	if err := os.Rename(partial, name); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, reason(err)), os.Remove(partial))
	}
	return SyncFolder(folder)
}

// fill writes, syncs and closes f. Close comes in any case, and its error counts:
// some file systems tell only then that the data did not fit.
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

// Symlink makes name a symbolic link to target in one step, in place of a link or
// file that was there.
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

// SyncFolder makes what was created, renamed or removed in a folder last.
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

// RemovePartial removes from a folder what killed processes left unfinished. The
// caller sees to it that nobody else writes there.
func RemovePartial(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var failed []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && strings.Contains(entry.Name(), marker) {
			failed = append(failed, os.Remove(filepath.Join(folder, entry.Name())))
		}
	}
	return errors.Join(failed...)
}

// reason takes the name of the partial file, which means nothing to a user, out
// of an error.
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
