package tracking

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// seen is what the writers of a store saw of its file.
type seen struct {
	mu   sync.Mutex
	size int64
	lost bool // another program has overwritten it
}

func (s *seen) isLost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// overwritten reports whether the open file, or its write-ahead log, has lost content
// since the last call: by another program than SQLite, which does not notice it as long
// as it remembers the pages. Close then leaves the files as they are.
func (s *Store) overwritten(ctx context.Context) bool {
	info, err := os.Stat(s.path)
	if err != nil || !os.SameFile(info, s.file) {
		return false // deleted or replaced
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	size := info.Size()
	shrunk := size < s.seen.size
	s.seen.size = size
	pages, ok := pagesOf(info, s.path)
	// A checkpoint writes the first page, with the number of pages, before it makes the
	// file longer, and VACUUM before it makes it shorter.
	s.seen.lost = s.seen.lost || !ok || shrunk && pages > size || s.logCut(ctx)
	return s.seen.lost
}

// logCut reports whether the log is shorter than its index says. It looks twice: between
// its looks at index and log another process may have emptied both.
func (s *Store) logCut(ctx context.Context) bool {
	if s.log == nil {
		return false
	}
	for range 2 {
		var busy, frames, copied, page int64
		if s.write.QueryRowContext(ctx, "PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &copied) != nil ||
			s.write.QueryRowContext(ctx, "PRAGMA page_size").Scan(&page) != nil {
			return false
		}
		log, err := os.Stat(s.path + "-wal")
		if err != nil || !os.SameFile(log, s.log) || frames <= 0 || log.Size() >= 32+frames*(24+page) {
			return false
		}
	}
	return true
}

// descriptors are of stores, by device and inode. They stay open: closing one would
// release the locks that SQLite has on the file in this process (fcntl(2)).
var descriptors sync.Map

// pagesOf returns the size that a store's first page says, and whether there is a first
// page.
func pagesOf(info os.FileInfo, path string) (bytesOfPages int64, ok bool) {
	stat, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return 0, info.Size() > 0
	}
	key := [2]uint64{uint64(stat.Dev), stat.Ino}
	descriptor, found := descriptors.Load(key)
	if !found {
		opened, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, true // not this function's finding
		}
		descriptor, _ = descriptors.LoadOrStore(key, opened)
	}
	header := make([]byte, 100)
	n, err := unix.Pread(descriptor.(int), header, 0)
	if err != nil {
		return 0, true
	}
	if n < len(header) || !bytes.HasPrefix(header, []byte("SQLite format 3\x00")) {
		return 0, false
	}
	page := int64(binary.BigEndian.Uint16(header[16:]))
	if page == 1 {
		page = 65536
	}
	return page * int64(binary.BigEndian.Uint32(header[28:])), true
}
