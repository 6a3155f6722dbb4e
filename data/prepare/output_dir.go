package prepare

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/internal/atomicfile"
)

// folder is the dataset folder while it is made: a hidden folder beside the
// target, which becomes the target by one rename when it is whole.
type folder struct {
	target string
	path   string
	lock   *os.File
	force  bool
	parent string // target's parent if it was created with this folder, else ""
}

// newFolder makes the hidden folder, or takes that of a killed preparation. The folder
// is locked, so that a second preparation into the same target fails, and so that the
// leftovers of a killed one can be recognized.
func newFolder(target string, force bool) (*folder, error) {
	target = filepath.Clean(target)
	if err := checkTarget(target, force); err != nil {
		return nil, err
	}
	parent, name := filepath.Split(target)
	if name == "." || name == ".." || name == "" {
		absolute, err := filepath.Abs(target)
		if err != nil {
			return nil, err
		}
		parent, name = filepath.Split(absolute)
	}
	f := &folder{target: target, path: filepath.Join(parent, "."+name+preparing), force: force}
	if parent != "" {
		if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
			f.parent = parent
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, err
		}
	}
	made := os.Mkdir(f.path, 0o755)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, made
	}
	lock, err := os.Open(f.path)
	if err != nil {
		if made == nil {
			_ = os.Remove(f.path) // empty
		}
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another prepare is writing %s: wait for it, or choose another --out", target)
		}
		return nil, fmt.Errorf("lock %s: %w", f.path, err)
	}
	f.lock = lock
	// The previous owner of the lock may have renamed or removed the folder
	// between our Open and our lock.
	here, err := os.Stat(f.path)
	locked, lockErr := lock.Stat()
	if err != nil || lockErr != nil || !os.SameFile(here, locked) {
		lock.Close()
		return nil, fmt.Errorf("another prepare was writing %s: try again", target)
	}
	if err := f.clear(func(name string) bool { return !survives(name) }); err != nil {
		return nil, errors.Join(err, f.abandon())
	}
	removeLeftovers(filepath.Dir(f.path))
	return f, nil
}

const preparing = ".preparing"

// removeLeftovers removes the folders of killed preparations: nobody holds their
// locks. A folder that cannot be removed is left.
func removeLeftovers(parent string) {
	entries, _ := os.ReadDir(parent)
	for _, entry := range entries {
		if name := entry.Name(); !entry.IsDir() || name[0] != '.' || !strings.HasSuffix(name, preparing) {
			continue
		}
		path := filepath.Join(parent, entry.Name())
		lock, err := os.Open(path)
		if err != nil {
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.RemoveAll(path)
		}
		lock.Close()
	}
}

// checkTarget returns an error if the target exists and may not be replaced,
// before any work is done.
func checkTarget(target string, force bool) error {
	stat, err := os.Stat(target)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !stat.IsDir():
		return fmt.Errorf("%s is a file: choose another --out", target)
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return nil
	}
	if !force {
		return fmt.Errorf("%s exists: choose another --out, or replace it with --force", target)
	}
	// --force replaces a dataset, and no other folder that was named by
	// mistake.
	if _, err := os.Stat(filepath.Join(target, "dataset.json")); err != nil {
		return fmt.Errorf("%s is not a dataset folder: --force does not replace it", target)
	}
	return nil
}

// clear removes the files that are chosen by their names.
func (f *folder) clear(chosen func(name string) bool) error {
	entries, err := os.ReadDir(f.path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !chosen(entry.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(f.path, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

// file is the path of a file in the folder.
func (f *folder) file(name string) string { return filepath.Join(f.path, name) }

// write writes a small file and syncs it.
func (f *folder) write(name string, content []byte) error {
	file, err := os.OpenFile(f.file(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// commit renames the folder to the target.
func (f *folder) commit() error {
	if err := f.lock.Sync(); err != nil { // the folder itself
		return fmt.Errorf("sync %s: %w", f.path, err)
	}
	err := os.Rename(f.path, f.target) // an empty target is replaced
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENOTEMPTY) {
		err = f.replace()
	}
	if err != nil {
		return err
	}
	defer f.lock.Close()
	return atomicfile.SyncFolder(filepath.Dir(f.target))
}

// replace exchanges the folder with the target atomically, and removes the old
// target.
func (f *folder) replace() error {
	if err := checkTarget(f.target, f.force); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, f.path, unix.AT_FDCWD, f.target, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("replace %s: %w", f.target, err)
	}
	return os.RemoveAll(f.path)
}

// abandon removes the folder, and its parent if that was created with it and is
// empty.
func (f *folder) abandon() error {
	err := errors.Join(os.RemoveAll(f.path), f.lock.Close())
	if f.parent != "" {
		_ = os.Remove(f.parent) // fails if it is not empty, as it should
	}
	return err
}
