package corpus

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/koala-lm/koala-lm/data"
)

// file is a source on disk.
type file struct {
	path string
	name string // name in messages and dataset.json: the address of a download, or path
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
	r, err := open(ctx, f.path)
	if err != nil {
		return data.SourceInfo{}, err
	}
	defer r.Close()
	held, packing := formatOf(f.path)
	if f.opts.Format != "" && held != kindZip && held != kindTar {
		held = kind(f.opts.Format)
	}
	if held == "" {
		held = kindText // a file given by name is text unless its name says otherwise
	}
	read := reading{ctx: ctx, opts: f.opts, sink: sink}
	summed := read.summed(r)
	if packing == "" && (held == kindParquet || held == kindZip) {
		// The format needs random access, so the checksum takes its own pass.
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
	// The reader did not read the bytes after the end of an archive or of
	// compressed text.
	if _, err := io.Copy(io.Discard, summed); err != nil {
		return data.SourceInfo{}, fmt.Errorf("read %s: %w", f.name, err)
	}
	return summed.info(f.name), nil
}

// open opens a file. It does not wait for the writer of a named pipe after the context
// ends.
func open(ctx context.Context, path string) (*os.File, error) {
	type result struct {
		f   *os.File
		err error
	}
	opened := make(chan result, 1)
	go func() {
		f, err := os.Open(path)
		opened <- result{f, err}
	}()
	select {
	case r := <-opened:
		return r.f, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// stdin is the source of the path "-": text, or JSON lines if a field was named. Records
// without either are an error: they would be tokenized with their braces and keys.
type stdin struct{ opts Options }

func (s *stdin) Size() int64 { return -1 }

func (s *stdin) Read(ctx context.Context, sink Sink) (data.SourceInfo, error) {
	if s.opts.Stdin == nil {
		return data.SourceInfo{}, errors.New("there is no standard input")
	}
	held := kindText
	switch {
	case s.opts.Format != "":
		held = kind(s.opts.Format)
	case s.opts.Field != "" || s.opts.Template != nil:
		held = kindJSONL
	}
	read := reading{ctx: ctx, opts: s.opts, sink: sink}
	in := bufio.NewReader(s.opts.Stdin)
	if head, _ := in.Peek(1 << 12); held == kindText && s.opts.Format == "" && startsRecord(head) {
		return data.SourceInfo{}, errors.New("standard input starts with a JSON record: name the field of its text with --field, or take it as it is with --input-format text")
	}
	summed := read.summed(in)
	if err := read.stream(summed, held, "", "standard input"); err != nil {
		return data.SourceInfo{}, err
	}
	return summed.info("standard input"), nil
}

// startsRecord reports whether text starts with a JSON object that has a member.
func startsRecord(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	open, err := d.Token()
	if err != nil || open != json.Delim('{') {
		return false
	}
	key, err := d.Token()
	if _, isKey := key.(string); err != nil || !isKey {
		return false
	}
	_, err = d.Token() // it follows a colon
	return err == nil
}

// reading is the state that the readers of all formats share.
type reading struct {
	ctx  context.Context
	opts Options
	sink Sink
}

// stream reads documents from a stream.
func (r reading) stream(summed *summer, held kind, packing, name string) error {
	from := readAhead(r.ctx, summed)
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
	if r.opts.Encoding != "" && held != kindTar && held != kindParquet && held != kindZip {
		decoded, err := decode(from, r.opts.Encoding)
		if err != nil {
			return err
		}
		from = decoded
	}
	switch held {
	case kindJSONL:
		return r.jsonl(from, name)
	case kindJSON:
		return r.json(from, name)
	case kindCSV:
		return r.csv(from, ',', name)
	case kindTSV:
		return r.csv(from, '\t', name)
	case kindTar:
		return r.tar(from, name)
	case kindParquet, kindZip:
		return r.spilled(from, held, name)
	}
	return r.text(from, name)
}

// randomAccess reads documents from a file whose format needs random access.
func (r reading) randomAccess(from io.ReaderAt, size int64, held kind, name string) error {
	if held == kindZip {
		return r.zip(from, size, name)
	}
	return r.parquet(from, size, name)
}

// spilled writes a stream to a temporary file, for random access.
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

// decode converts text to UTF-8 from an encoding with an IANA or WHATWG name,
// such as utf-16, latin1 or shift_jis.
func decode(from io.Reader, name string) (io.Reader, error) {
	encoding, err := findEncoding(name)
	if err != nil {
		return nil, err
	}
	return transform.NewReader(from, encoding.NewDecoder()), nil
}

func findEncoding(name string) (encoding.Encoding, error) {
	switch strings.ToLower(strings.ReplaceAll(name, "_", "-")) {
	case "utf-16", "utf16": // with a byte-order mark, or as Windows writes it
		return unicode.UTF16(unicode.LittleEndian, unicode.UseBOM), nil
	case "latin1", "latin-1", "iso-8859-1": // browsers read it as windows-1252; this is the real one
		return charmap.ISO8859_1, nil
	}
	found, err := ianaindex.IANA.Encoding(name)
	if err != nil || found == nil {
		if found, err = htmlindex.Get(name); err != nil {
			return nil, fmt.Errorf("--encoding %s is not known: want a name such as utf-16, latin1, windows-1252 or shift_jis", name)
		}
	}
	return found, nil
}

// CheckEncoding reports whether an encoding is known.
func CheckEncoding(name string) error {
	_, err := findEncoding(name)
	return err
}

// buffers are reused for reading texts: an archive may have many small ones.
var buffers = sync.Pool{New: func() any { return new([aheadSize]byte) }}

// text reads a stream as one document, without a byte-order mark at its start.
func (r reading) text(from io.Reader, name string) error {
	if err := r.sink.Begin(name); err != nil {
		return err
	}
	array := buffers.Get().(*[aheadSize]byte)
	defer buffers.Put(array)
	buffer := array[:]
	head := 0
	for head < len(byteOrderMark) { // the mark may come in parts
		n, err := from.Read(buffer[head:len(byteOrderMark)])
		head += n
		if err == io.EOF {
			break
		}
		if err != nil {
			return readError(name, err)
		}
	}
	if !bytes.Equal(buffer[:head], byteOrderMark) {
		if _, err := r.sink.Write(buffer[:head]); err != nil {
			return err
		}
	}
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

// readError adds the file's name to a system error; the decompressors' errors
// already have it.
func readError(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("read %s: %w", name, path.Err)
	}
	return err
}

// document writes a text in memory to the sink.
func document(sink Sink, place string, text []byte) error {
	if err := sink.Begin(place); err != nil {
		return err
	}
	if _, err := sink.Write(text); err != nil {
		return err
	}
	return sink.End()
}

// summer reads a file and computes its checksum, until the context ends.
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
