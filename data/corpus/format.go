package corpus

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// kind is the format of a file's decompressed content.
type kind string

const (
	kindText    kind = "text"
	kindJSONL   kind = "jsonl"
	kindJSON    kind = "json"
	kindCSV     kind = "csv"
	kindTSV     kind = "tsv"
	kindParquet kind = "parquet"
	kindZip     kind = "zip"
	kindTar     kind = "tar"
)

// kinds maps file endings to formats.
var kinds = map[string]kind{
	".txt": kindText, ".tokens": kindText, ".md": kindText, ".raw": kindText,
	".jsonl": kindJSONL, ".ndjson": kindJSONL, ".json": kindJSON, ".csv": kindCSV, ".tsv": kindTSV, ".parquet": kindParquet,
	".zip": kindZip, ".tar": kindTar,
}

// readable lists kinds in messages.
const readable = ".txt .tokens .md .raw .jsonl .json .csv .tsv .parquet, each also .gz .zst .bz2 .xz, .zip and .tar.*"

// Formats are the names that --format takes.
var Formats = []string{"text", "jsonl", "json", "csv", "tsv", "parquet"}

// packings are the endings of compressed files.
var packings = map[string]func(io.Reader) (io.ReadCloser, error){
	".gz":  newGzipReader,
	".bz2": func(r io.Reader) (io.ReadCloser, error) { return io.NopCloser(bzip2.NewReader(r)), nil },
	".zst": func(r io.Reader) (io.ReadCloser, error) {
		// The window bounds the memory; zstd --long needs 128 MiB.
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	},
	".xz": func(r io.Reader) (io.ReadCloser, error) {
		d, err := xz.NewReader(r) // reads byte by byte: r is buffered
		if err != nil {
			return nil, err
		}
		return io.NopCloser(d), nil
	},
}

var shortTars = map[string]string{".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz", ".tzst": ".zst"}

// gzipReader reads the members of a gzip file. Zeros may follow the last member,
// as on tapes; other trailing bytes are errTrailing.
type gzipReader struct {
	from *bufio.Reader
	*gzip.Reader
}

func newGzipReader(r io.Reader) (io.ReadCloser, error) {
	from := bufio.NewReader(r)
	z, err := gzip.NewReader(from)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{from, z}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	n, err := g.Reader.Read(p)
	if err != io.EOF {
		return n, err
	}
	for first := true; ; first = false {
		c, peekErr := g.from.Peek(1)
		switch {
		case peekErr != nil:
			return n, peekErr // io.EOF, or why reading fails
		case c[0] == 0:
			_, _ = g.from.Discard(1)
			continue
		case !first:
			return n, errTrailing
		}
		if magic, _ := g.from.Peek(2); len(magic) < 2 || magic[0] != 0x1f || magic[1] != 0x8b {
			return n, errTrailing
		}
		if err := g.Reader.Reset(g.from); err != nil {
			return n, err
		}
		g.Reader.Multistream(false)
		return n, nil
	}
}

var errTrailing = errors.New("something that is not gzip follows its end")

// formatOf derives a file's format and compression from its name. kind is "" if
// the ending is unknown; packing is "" for an uncompressed file.
func formatOf(name string) (held kind, packing string) {
	name = strings.ToLower(name)
	ending := filepath.Ext(name)
	if packing, ok := shortTars[ending]; ok {
		return kindTar, packing
	}
	if _, ok := packings[ending]; ok {
		packing = ending
		ending = filepath.Ext(strings.TrimSuffix(name, ending))
	}
	return kinds[ending], packing
}

func known(path string) bool {
	held, _ := formatOf(path)
	return held != ""
}

// Limits of decompression. Useful text compresses ten times, or perhaps fifty; a
// decompression bomb a thousand times and more.
const (
	maxRatio    = 250
	ratioFrom   = 64 << 20 // the ratio counts from this many bytes on
	maxUnpacked = 1 << 40
)

// unpacker decompresses a stream and fails on a decompression bomb.
type unpacker struct {
	name   string
	packed func() int64 // bytes read so far from the compressed stream
	from   io.ReadCloser
	n      int64
}

// unpack returns r's decompressed stream; packed returns the number of compressed
// bytes read so far.
func unpack(r io.Reader, packing, name string, packed func() int64) (io.ReadCloser, error) {
	from, err := packings[packing](bufio.NewReaderSize(r, 1<<18))
	if err != nil {
		return nil, damaged(name, err)
	}
	return &unpacker{name: name, packed: packed, from: from}, nil
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.from.Read(p)
	u.n += int64(n)
	if bombErr := checkBomb(u.name, u.n, u.packed()); bombErr != nil {
		return n, bombErr
	}
	if err != nil && err != io.EOF {
		err = damaged(u.name, err)
	}
	return n, err
}

func (u *unpacker) Close() error { return u.from.Close() }

func checkBomb(name string, unpacked, packed int64) error {
	if unpacked > ratioFrom && unpacked/maxRatio > packed {
		return fmt.Errorf("%s unpacks to more than %d times its size: if that is meant, unpack it first", name, maxRatio)
	}
	if unpacked > maxUnpacked {
		return fmt.Errorf("%s unpacks to more than a terabyte: if that is meant, unpack it first", name)
	}
	return nil
}

func damaged(name string, err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%s is cut short: its end is missing", name)
	}
	if err == errTrailing {
		return fmt.Errorf("%s: %w: cut that off, or unpack it first", name, err)
	}
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return fmt.Errorf("%s needs more than 128 MiB of memory to be unpacked: unpack it first (zstd -d --long=31)", name)
	}
	return fmt.Errorf("%s is damaged, or not what its name says: %w", name, err)
}
