package prepare

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"unicode/utf8"
)

// spool holds the text of the whole corpus in one file, documents one after
// another. Later passes need to read the same text again at any position, which
// streams, compressed files and changing files do not allow.
type spool struct {
	f       *os.File
	w       *bufio.Writer
	replace bool
	size    int64
	sum     uint32  // a checksum of the text
	ends    []int64 // the end of each document
	started int64   // start of the open document

	place   string // origin of the open document
	partial []byte // an unfinished character at the end of the last write
}

// castagnoli is the polynomial for which processors have an instruction.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func newSpool(path string, replaceInvalid bool) (*spool, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	// The file has no name any more: it goes with the process, however that ends.
	if err := os.Remove(path); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{f: f, w: bufio.NewWriterSize(f, 1<<17), replace: replaceInvalid}, nil
}

// Begin, Write and End make the spool a corpus.Sink.
func (s *spool) Begin(place string) error {
	s.place, s.started = place, s.size
	s.partial = s.partial[:0]
	return nil
}

func (s *spool) Write(p []byte) (int, error) {
	written := len(p)
	if len(s.partial) > 0 {
		p = append(s.partial, p...)
		s.partial = nil
	}
	for len(p) > 0 {
		valid := validPrefix(p)
		if err := s.put(p[:valid]); err != nil {
			return 0, err
		}
		if p = p[valid:]; len(p) == 0 {
			break
		}
		if !utf8.FullRune(p) {
			s.partial = append(s.partial[:0], p...)
			break
		}
		if err := s.invalid(p[0]); err != nil {
			return 0, err
		}
		p = p[1:]
	}
	return written, nil
}

// End ends a document; an empty one is dropped.
func (s *spool) End() error {
	for _, b := range s.partial {
		if err := s.invalid(b); err != nil {
			return err
		}
	}
	s.partial = s.partial[:0]
	if s.size > s.started {
		s.ends = append(s.ends, s.size)
	}
	return nil
}

func (s *spool) put(p []byte) error {
	s.sum = crc32.Update(s.sum, castagnoli, p)
	n, err := s.w.Write(p)
	s.size += int64(n)
	if err != nil {
		return fmt.Errorf("write the text to disk: %w", err)
	}
	return nil
}

func (s *spool) invalid(b byte) error {
	if s.replace {
		return s.put([]byte("\uFFFD"))
	}
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("write the text to disk: %w", err)
	}
	line := 1
	for at := s.started; at < s.size; at += window {
		text, err := s.read(extent{at, min(s.size, at+window)}, nil)
		if err != nil {
			return err
		}
		line += bytes.Count(text, []byte{'\n'})
	}
	return fmt.Errorf("%s:%d: byte 0x%02x is not UTF-8: convert the file, or use --invalid replace", s.place, line, b)
}

// finish ends writing. Afterwards the spool can be read.
func (s *spool) finish() error {
	if err := s.w.Flush(); err != nil {
		return fmt.Errorf("write the text to disk: %w", err)
	}
	s.w = nil
	return nil
}

func (s *spool) close() error { return s.f.Close() }

// document returns the extent of document i.
func (s *spool) document(i int) extent {
	if i == 0 {
		return extent{0, s.ends[0]}
	}
	return extent{s.ends[i-1], s.ends[i]}
}

// read returns the text of a small extent.
func (s *spool) read(e extent, buffer []byte) ([]byte, error) {
	n := int(e.end - e.start)
	if cap(buffer) < n {
		buffer = make([]byte, n)
	}
	buffer = buffer[:n]
	if _, err := io.ReadFull(io.NewSectionReader(s.f, e.start, int64(n)), buffer); err != nil {
		return nil, fmt.Errorf("read the text back: %w", err)
	}
	return buffer, nil
}

// character returns the start of the first character at or after place, at most end.
func (s *spool) character(place, end int64) (int64, error) {
	text, err := s.read(extent{place, min(end, place+utf8.UTFMax)}, nil)
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text, place = text[1:], place+1
	}
	return min(place, end), err
}

// extent is a range of the spool: a document, or a split's part of one.
type extent struct{ start, end int64 }

func (e extent) size() int64 { return e.end - e.start }

func totalSize(extents []extent) (n int64) {
	for _, e := range extents {
		n += e.size()
	}
	return n
}

// validPrefix is the length of the longest valid UTF-8 that p starts with.
func validPrefix(p []byte) int {
	if utf8.Valid(p) {
		return len(p)
	}
	i := 0
	for i < len(p) {
		if p[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return i
}
