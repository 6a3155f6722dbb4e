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

// A cache is the per-user folder of finished downloads and builds. An entry is a
// folder that is built under a temporary name and then renamed, so an existing
// entry is complete.
type cache struct {
	dir string

	mu sync.Mutex
	w  io.Writer // progress messages

	making sync.Map // by name: a *sync.Mutex of those in this process who want the entry
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

// entry returns the folder called name. build makes it if it does not exist. Of
// concurrent set-ups one builds, and the others wait for its result. build writes
// into the empty temporary folder tmp, which is then renamed to final; it needs
// need bytes of free space.
func (c *cache) entry(name string, need uint64, build func(tmp, final string) error) (string, error) {
	own, _ := c.making.LoadOrStore(name, new(sync.Mutex))
	own.(*sync.Mutex).Lock()
	defer own.(*sync.Mutex).Unlock()
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
	// The lock is held, so any temporary folder belongs to a killed set-up.
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
	// If the rename reached the disk before the data, a loss of power would leave
	// an incomplete entry that looks complete.
	syscall.Sync()
	if err := os.Rename(tmp, final); err != nil {
		return "", err
	}
	return final, nil
}

// lock waits until no other process makes the entry, and keeps others from making it.
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

// checkSpace returns an error before a download if the disk does not have enough
// space.
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

// removeAll also removes folders that are not writable, such as copies from Go's
// module cache.
func removeAll(dir string) error {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o755)
		}
		return nil
	})
	return os.RemoveAll(dir)
}
