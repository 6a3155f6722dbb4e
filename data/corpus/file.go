package corpus

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/koala-lm/koala-lm/data"
)

// file is a source on disk.
type file struct {
	path string
	name string // what messages and dataset.json call it: where it was downloaded from, or path
	size int64
	opts Options
}

func newFile(path string, stat fs.FileInfo, opts Options) *file {
	size := stat.Size()
	if !stat.Mode().IsRegular() {
		size = -1
	}
	return &file{path: path, name: path, size: size, opts: opts}
}

func (f *file) Size() int64 { return f.size }

func (f *file) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return data.SourceInfo{}, err
	}
	defer r.Close()
	held, packing := formatOf(f.path)
	if held == "" {
		held = kindText // it was given by name
	}
	read := reading{ctx: ctx, opts: f.opts, sink: sink}
	summed := read.summed(r)
	if packing == "" && (held == kindParquet || held == kindZip) {
		// Read from here and there, and summed in a pass of its own.
		if _, err := io.Copy(io.Discard, summed); err != nil {
			return data.SourceInfo{}, fmt.Errorf("read %s: %w", f.name, err)
		}
		if err := read.randomAccess(r, summed.n.Load(), held, f.name); err != nil {
			return data.SourceInfo{}, err
		}
		return summed.info(f.name), nil
	}
	if err := read.stream(summed, held, packing, f.name); err != nil {
		return data.SourceInfo{}, err
	}
	// What is behind the end of an archive or of packed text was not read.
	if _, err := io.Copy(io.Discard, summed); err != nil {
		return data.SourceInfo{}, fmt.Errorf("read %s: %w", f.name, err)
	}
	return summed.info(f.name), nil
}

// stdin is what the path "-" names: text, or JSON lines if a field was named.
type stdin struct{ opts Options }

func (s *stdin) Size() int64 { return -1 }

func (s *stdin) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	if s.opts.Stdin == nil {
		return data.SourceInfo{}, errors.New("there is no standard input")
	}
	held := kindText
	if s.opts.Field != "" {
		held = kindJSONL
	}
	read := reading{ctx: ctx, opts: s.opts, sink: sink}
	summed := read.summed(s.opts.Stdin)
	if err := read.stream(summed, held, "", "standard input"); err != nil {
		return data.SourceInfo{}, err
	}
	return summed.info("standard input"), nil
}

// reading is what the readers of all formats share.
type reading struct {
	ctx  context.Context
	opts Options
	sink Sink
}

// stream reads documents from a stream.
func (r reading) stream(summed *summer, held kind, packing, name string) error {
	from := readAhead(summed)
	defer from.Close()
	if packing == "" {
		return r.unpacked(from, held, name)
	}
	u, err := unpack(from, packing, name, summed.n.Load)
	if err != nil {
		return err
	}
	return cmp.Or(r.unpacked(u, held, name), u.Close())
}

func (r reading) unpacked(from io.Reader, held kind, name string) error {
	switch held {
	case kindJSONL:
		return r.jsonl(from, name)
	case kindTar:
		return r.tar(from, name)
	case kindParquet, kindZip:
		return r.spilled(from, held, name)
	}
	return r.text(from, name)
}

// randomAccess reads documents from a file that must be read here and there.
func (r reading) randomAccess(from io.ReaderAt, size int64, held kind, name string) error {
	if held == kindZip {
		return r.zip(from, size, name)
	}
	return r.parquet(from, size, name)
}

// spilled writes a stream to a temporary file, to read it here and there.
func (r reading) spilled(from io.Reader, held kind, name string) (err error) {
	spill, err := os.CreateTemp("", "koala-lm-*")
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, spill.Close(), os.Remove(spill.Name())) }()
	size, err := io.Copy(spill, from)
	if err != nil {
		return err
	}
	return r.randomAccess(spill, size, held, name)
}

// text hands out a stream as one document.
func (r reading) text(from io.Reader, name string) error {
	if err := r.sink.Begin(name); err != nil {
		return err
	}
	buffer := make([]byte, aheadSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := r.sink.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return r.sink.End()
		}
		if err != nil {
			return readError(name, err)
		}
	}
}

// readError adds the name to an error of the system; those of the unpackers
// have it.
func readError(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("read %s: %w", name, path.Err)
	}
	return err
}

// document hands out a text that is in memory.
func document(sink Sink, place string, text []byte) error {
	if err := sink.Begin(place); err != nil {
		return err
	}
	if _, err := sink.Write(text); err != nil {
		return err
	}
	return sink.End()
}

// summer reads and sums, until the context ends.
type summer struct {
	ctx      context.Context
	r        io.Reader
	hash     hash.Hash
	n        atomic.Int64
	progress func(int64)
}

func (r reading) summed(from io.Reader) *summer {
	return &summer{ctx: r.ctx, r: from, hash: sha256.New(), progress: r.opts.Progress}
}

func (s *summer) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.hash.Write(p[:n])
	s.n.Add(int64(n))
	if s.progress != nil {
		s.progress(int64(n))
	}
	return n, err
}

func (s *summer) info(path string) data.SourceInfo {
	return data.SourceInfo{Path: path, Bytes: s.n.Load(), SHA256: hex.EncodeToString(s.hash.Sum(nil))}
}
