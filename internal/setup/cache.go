package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

// A cache is the per-user folder that finished downloads and builds live in.
// An entry is a folder that is built under a temporary name and renamed, so an
// entry that is there is whole.
type cache struct {
	dir string

	mu sync.Mutex
	w  io.Writer // progress messages
}

func openCache(dir string, w io.Writer) (*cache, error) {
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no cache folder: %w (set KOALA_LM_CACHE)", err)
		}
		dir = filepath.Join(base, "koala-lm")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cache folder: %w (set KOALA_LM_CACHE to one that can be written)", err)
	}
	return &cache{dir: dir, w: w}, nil
}

// say prints a line of progress.
func (c *cache) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.w, "setup: "+format+"\n", args...)
}

// entry returns the folder of the given name, built by build if it is not
// there yet. Racing set-ups wait for one another: the first builds, the others
// find its result. build writes into an empty temporary folder and is told the
// name that the folder will have; need is the free space in bytes it asks for.
func (c *cache) entry(name string, need uint64, build func(tmp, final string) error) (string, error) {
	final := filepath.Join(c.dir, name)
	if isDir(final) {
		return final, nil
	}
	unlock, err := c.lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(final) {
		return final, nil
	}
	// The lock is held, so whatever a killed set-up left behind has no owner.
	stale, err := filepath.Glob(final + ".tmp-*")
	if err != nil {
		return "", err
	}
	for _, dir := range stale {
		if err := removeAll(dir); err != nil {
			return "", err
		}
	}
	if err := c.checkSpace(need); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(c.dir, name+".tmp-")
	if err != nil {
		return "", err
	}
	defer removeAll(tmp)
	if err := build(tmp, final); err != nil {
		if isDiskFull(err) {
			return "", fmt.Errorf("%s: the disk is full; free %s in %s or set KOALA_LM_CACHE", name, humanize.IBytes(need), c.dir)
		}
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	// A rename without the data behind it would, after a power cut, leave an
	// entry that passes for whole.
	syscall.Sync()
	if err := os.Rename(tmp, final); err != nil {
		return "", err
	}
	return final, nil
}

// lock takes the lock of one entry and waits for whoever holds it.
func (c *cache) lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == unix.EWOULDBLOCK {
		c.say("another set-up is making %s: waiting for it", name)
		for {
			if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
				break
			}
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// checkSpace says in time what a full disk would say in the middle of a download.
func (c *cache) checkSpace(need uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(c.dir, &st); err != nil {
		return fmt.Errorf("cache folder: %w", err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < need {
		return fmt.Errorf("%s has %s free, %s are needed: free some or set KOALA_LM_CACHE to a larger disk", c.dir, humanize.IBytes(free), humanize.IBytes(need))
	}
	return nil
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// removeAll also removes folders that are not writable, as those copied from
// Go's module cache are.
func removeAll(dir string) error {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
