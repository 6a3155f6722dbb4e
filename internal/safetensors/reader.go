package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// A Reader reads tensors from a file that has passed all checks. It may be used by
// many goroutines. It reads by ReadAt and not through a memory map, so that a file
// that is truncated meanwhile gives an error and not a fault.
type Reader struct {
	source   io.ReaderAt
	start    int64 // offset of the data
	entries  []entry
	index    map[string]int
	metadata map[string]string
	file     *os.File // nil if the caller owns the source
}

// Open opens a file, which Close closes.
func Open(name string) (*Reader, error) {
	// Without O_NONBLOCK, opening a FIFO would wait for a writer.
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	stat, err := f.Stat()
	if err == nil && !stat.Mode().IsRegular() {
		err = formatError("not a regular file")
	}
	var r *Reader
	if err == nil {
		r, err = NewReader(f, stat.Size())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	r.file = f
	return r, nil
}

// NewReader reads and checks the header of source, which has size bytes.
func NewReader(source io.ReaderAt, size int64) (*Reader, error) {
	var length [8]byte
	if size < int64(len(length)) {
		return nil, formatError("%d bytes are too few for a safetensors file", size)
	}
	if err := readFull(source, length[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(length[:])
	switch {
	case n > MaxHeader:
		return nil, formatError("its header would have %d bytes, more than %d: not a safetensors file, or a damaged one", n, MaxHeader)
	case int64(n) > size-8:
		return nil, formatError("a header of %d bytes in a file of %d: it is cut off", n, size)
	}
	header := make([]byte, n)
	if err := readFull(source, header, 8); err != nil {
		return nil, err
	}
	r := &Reader{source: source, start: 8 + int64(n)}
	var err error
	if r.entries, r.metadata, err = parseHeader(header, size-r.start); err != nil {
		return nil, err
	}
	r.index = make(map[string]int, len(r.entries))
	for i, e := range r.entries {
		r.index[e.Name] = i
	}
	return r, nil
}

// Metadata returns the file's __metadata__, nil if it has none.
func (r *Reader) Metadata() map[string]string { return r.metadata }

// Tensors returns the descriptions of all tensors, in the order of their data.
func (r *Reader) Tensors() []Info {
	list := make([]Info, len(r.entries))
	for i, e := range r.entries {
		list[i] = e.Info
	}
	return list
}

// Lookup returns the description of the tensor called name.
func (r *Reader) Lookup(name string) (Info, bool) {
	i, ok := r.index[name]
	if !ok {
		return Info{}, false
	}
	return r.entries[i].Info, true
}

// Read fills dst with a tensor's data. The lengths must be equal.
func (r *Reader) Read(name string, dst []byte) error {
	i, ok := r.index[name]
	if !ok {
		return formatError("there is no tensor %q", name)
	}
	e := r.entries[i]
	if int64(len(dst)) != e.end-e.begin {
		return fmt.Errorf("tensor %v has %d bytes, and %d are asked for", e.Info, e.end-e.begin, len(dst))
	}
	if err := readFull(r.source, dst, r.start+e.begin); err != nil {
		return fmt.Errorf("read tensor %q: %w", name, err)
	}
	return nil
}

// Close closes a file that Open opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// readFull reads all of dst. A ReaderAt may return io.EOF with the last bytes.
func readFull(source io.ReaderAt, dst []byte, offset int64) error {
	n, err := source.ReadAt(dst, offset)
	switch {
	case n == len(dst):
		return nil
	case err == io.EOF:
		return formatError("the file ends at byte %d, before its data: it was cut off meanwhile", offset+int64(n))
	}
	return err
}
