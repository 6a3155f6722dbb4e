package corpus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/koala-lm/koala-lm/data"
)

// formats are the endings of the formats that are read, without those of
// compression.
var formats = []string{".txt", ".tokens", ".md"}

// format returns the ending that tells the format of a file, and "" if it is
// none of formats.
func format(name string) string {
	ending := strings.ToLower(filepath.Ext(name))
	for _, f := range formats {
		if ending == f {
			return f
		}
	}
	return ""
}

func known(path string) bool { return format(path) != "" }

// file is a source on disk.
type file struct {
	path string
	size int64
	opts Options
}

func newFile(path string, stat fs.FileInfo, opts Options) *file {
	size := stat.Size()
	if !stat.Mode().IsRegular() {
		size = -1
	}
	return &file{path: path, size: size, opts: opts}
}

func (f *file) Size() int64 { return f.size }

func (f *file) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return data.SourceInfo{}, err
	}
	defer r.Close()
	return readStream(ctx, r, f.path, f.opts, sink)
}

// stdin is what the path "-" names.
type stdin struct{ r io.Reader }

func (s *stdin) Size() int64 { return -1 }

func (s *stdin) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	if s.r == nil {
		return data.SourceInfo{}, errors.New("there is no standard input")
	}
	return readStream(ctx, s.r, "standard input", Options{}, sink)
}

// readStream reads one stream to its end and returns its checksum.
func readStream(ctx context.Context, r io.Reader, name string, _ Options, sink Sink) (data.SourceInfo, error) {
	summed := &summer{ctx: ctx, r: r, hash: sha256.New()}
	if err := readText(summed, name, sink); err != nil {
		return data.SourceInfo{}, err
	}
	return summed.info(name), nil
}

// readText hands out a stream as one document.
func readText(r io.Reader, name string, sink Sink) error {
	if err := sink.Begin(name); err != nil {
		return err
	}
	buffer := make([]byte, 1<<18)
	for {
		n, err := r.Read(buffer)
		if n > 0 {
			if _, err := sink.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return sink.End()
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
}

// summer reads and sums, until the context ends.
type summer struct {
	ctx  context.Context
	r    io.Reader
	hash hash.Hash
	n    int64
}

func (s *summer) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *summer) info(path string) data.SourceInfo {
	return data.SourceInfo{Path: path, Bytes: s.n, SHA256: hex.EncodeToString(s.hash.Sum(nil))}
}
