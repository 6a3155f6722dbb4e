package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
	"github.com/koala-lm/koala-lm/tracking"
)

// outFlags are the flags of a command that writes a file.
type outFlags struct {
	out   string
	force bool
}

func (o *outFlags) add(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVarP(&o.out, "out", "o", "", usage)
	cmd.Flags().BoolVar(&o.force, "force", false, "replace what is there (never a store of runs)")
}

// check refuses an --out that would destroy something: an existing file without
// --force, and a store always.
func (o *outFlags) check(store string) error {
	if o.out == "" {
		return nil
	}
	if o.out == "-" {
		return usagef("--out - would write a file of that name: standard output is --out /dev/stdout")
	}
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if sameFile(o.out, store+suffix) {
			return usagef("--out %s is the store of runs itself: name another file", o.out)
		}
	}
	info, err := os.Stat(o.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("--out: %w", err)
	case info.IsDir():
		return usagef("--out %s is a folder: name a file", o.out)
	case tracking.IsStore(o.out), tracking.IsStore(strings.TrimSuffix(strings.TrimSuffix(o.out, "-wal"), "-shm")):
		return usagef("--out %s is a store of runs, which is never overwritten: name another file, or move it away", o.out)
	case info.Mode().IsRegular() && !o.force:
		return usagef("--out %s exists: --force replaces it", o.out)
	}
	return nil
}

// sameFile reports whether two paths lead to one file, also where it does not exist
// yet.
func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(x, y)
	}
	p, errA := filepath.Abs(a)
	q, errB := filepath.Abs(b)
	return errA == nil && errB == nil && p == q
}

// write writes --out by calling write. The file appears whole or not at all. A
// device or a pipe, such as /dev/stdout, is written in place.
func (o *outFlags) write(write func(io.Writer) error) error {
	info, err := os.Stat(o.out)
	if err != nil || info.Mode().IsRegular() {
		return atomicfile.Write(o.out, write)
	}
	file, err := os.OpenFile(o.out, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return errors.Join(write(file), file.Close())
}

// checkNew refuses an --out that exists, unless --force is given.
func (o *outFlags) checkNew() error {
	if _, err := os.Lstat(o.out); err == nil && !o.force {
		return usagef("--out %s exists: --force replaces it", o.out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--out: %w", err)
	}
	return nil
}

// checkFolder refuses an --out folder that holds anything, unless --force is given.
func (o *outFlags) checkFolder() error {
	entries, err := os.ReadDir(o.out)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return usagef("--out %s must be a folder: %v", o.out, err)
	case len(entries) > 0 && !o.force:
		return usagef("--out %s is not empty: --force adds to it and replaces files of the same name", o.out)
	}
	return nil
}

// writeFolder writes the folder --out by calling write. A new folder appears whole or
// not at all; to an existing one, write adds.
func (o *outFlags) writeFolder(write func(folder string) error) error {
	if _, err := os.Stat(o.out); err == nil {
		return write(o.out)
	}
	parent, name := filepath.Split(filepath.Clean(o.out))
	if err := os.MkdirAll(filepath.Join(parent, "."), 0o755); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	made, err := os.MkdirTemp(filepath.Join(parent, "."), "."+name+".*")
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	defer os.RemoveAll(made) // without effect after the rename
	if err := errors.Join(os.Chmod(made, 0o755), write(made)); err != nil {
		return err
	}
	if err := os.Rename(made, o.out); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return atomicfile.SyncFolder(parent)
}
