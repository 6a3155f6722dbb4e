package data

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// Tokens are the ids of one split, memory-mapped.
type Tokens struct {
	path   string
	bytes  []byte // the map
	width  int    // bytes of an id: 2 or 4
	n      int
	starts *starts // of the documents; nil if they are not known
}

// mapTokens maps a token file of n ids.
func mapTokens(path string, width int, n int64) (*Tokens, error) {
	mapped, err := mapFile(path, n*int64(width))
	if err != nil {
		return nil, err
	}
	return &Tokens{path: path, bytes: mapped, width: width, n: int(n)}, nil
}

// mapFile maps a file that is size bytes long.
func mapFile(path string, size int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if stat.Size() != size {
		return nil, fmt.Errorf("%s has %d bytes, want %d: it was cut or changed after it was made", path, stat.Size(), size)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return mapped, nil
}

// NewTokens wraps ids in memory, for tests and for text without a dataset.
func NewTokens(ids []uint32) *Tokens {
	t := &Tokens{path: "memory", width: 4, n: len(ids), bytes: make([]byte, 4*len(ids))}
	for i, id := range ids {
		binary.LittleEndian.PutUint32(t.bytes[4*i:], id)
	}
	return t
}

func (t *Tokens) unmap() error {
	var errs []error
	for _, mapped := range [][]byte{t.bytes, t.starts.bytes()} {
		if mapped != nil {
			errs = append(errs, unix.Munmap(mapped))
		}
	}
	t.bytes, t.n, t.starts = nil, 0, nil
	return errors.Join(errs...)
}

// Len is the number of ids.
func (t *Tokens) Len() int { return t.n }

// At returns the id at i. It panics if i is out of range, as a slice does.
func (t *Tokens) At(i int) int {
	if t.width == 2 {
		return int(binary.LittleEndian.Uint16(t.bytes[2*i:]))
	}
	return int(binary.LittleEndian.Uint32(t.bytes[4*i:]))
}

// Read fills dst with the ids from position from on, widened for libtorch.
func (t *Tokens) Read(dst []int64, from int) error {
	return t.readStrided(dst, 1, len(dst), from)
}

// readStrided writes count ids, from position from on, to dst[0], dst[stride],
// dst[2*stride], ... If the file was truncated since it was mapped, it returns
// an error and does not crash.
func (t *Tokens) readStrided(dst []int64, stride, count, from int) (err error) {
	if from < 0 || count > t.n-from {
		return fmt.Errorf("read of tokens %d to %d of %s, which has %d", from, from+count, t.path, t.n)
	}
	defer recoverFault(t.path, debug.SetPanicOnFault(true), &err)
	if t.width == 2 {
		src := t.bytes[2*from : 2*(from+count)]
		for i, at := 0, 0; i < count; i, at = i+1, at+stride {
			dst[at] = int64(binary.LittleEndian.Uint16(src[2*i:]))
		}
		return nil
	}
	src := t.bytes[4*from : 4*(from+count)]
	for i, at := 0, 0; i < count; i, at = i+1, at+stride {
		dst[at] = int64(binary.LittleEndian.Uint32(src[4*i:]))
	}
	return nil
}

var errFault = errors.New("it was cut or its disk failed while it was read")

// recoverFault turns a fault into an error. It is deferred around reads of the
// map of a file; old is the previous value of SetPanicOnFault.
func recoverFault(path string, old bool, err *error) {
	debug.SetPanicOnFault(old)
	switch p := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }: // a runtime.Error with the address of a memory fault
		*err = fmt.Errorf("read %s: %w", path, errFault)
	default:
		panic(p)
	}
}

// each calls f with the whole map in pieces, turning a fault into an error.
func (t *Tokens) each(piece int, f func(p []byte) error) (err error) {
	defer recoverFault(t.path, debug.SetPanicOnFault(true), &err)
	for rest := t.bytes; len(rest) > 0; {
		n := min(piece, len(rest))
		if err := f(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}
