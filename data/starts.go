package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"runtime/debug"
	"sort"
)

// starts is the index of a split's documents, memory-mapped: the position of the
// first token of each, as little-endian uint64. A separator belongs to the document
// that follows it.
type starts struct {
	path   string
	mapped []byte
}

// StartsFile is the name of the file that has a split's index of documents.
func StartsFile(split string) string { return split + ".starts" }

// mapStarts maps the index of a split with this number of documents.
func mapStarts(path string, documents int64) (*starts, error) {
	mapped, err := mapFile(path, 8*documents)
	if err != nil {
		return nil, err
	}
	return &starts{path, mapped}, nil
}

func (s *starts) bytes() []byte {
	if s == nil {
		return nil
	}
	return s.mapped
}

func (s *starts) len() int { return len(s.mapped) / 8 }

func (s *starts) at(i int) int { return int(binary.LittleEndian.Uint64(s.mapped[8*i:])) }

// WithDocuments returns tokens in memory whose documents start at the positions.
func (t *Tokens) WithDocuments(positions []int) *Tokens {
	with := *t
	with.starts = &starts{path: t.path}
	for _, at := range positions {
		with.starts.mapped = binary.LittleEndian.AppendUint64(with.starts.mapped, uint64(at))
	}
	return &with
}

// HasDocuments reports whether it is known where documents start.
func (t *Tokens) HasDocuments() bool { return t.starts != nil }

// ReadStarts writes to dst[i] the position at which the document of token from+i
// starts.
func (t *Tokens) ReadStarts(dst []int64, from int) (err error) {
	s := t.starts
	if s == nil {
		return fmt.Errorf("%s has no index of documents", t.path)
	}
	if from < 0 || len(dst) > t.n-from {
		return fmt.Errorf("read of tokens %d to %d of %s, which has %d", from, from+len(dst), t.path, t.n)
	}
	defer recoverFault(s.path, debug.SetPanicOnFault(true), &err)
	next := sort.Search(s.len(), func(i int) bool { return s.at(i) > from })
	for i := range dst {
		for next < s.len() && s.at(next) <= from+i {
			next++
		}
		dst[i] = int64(s.at(next - 1))
	}
	return nil
}

// verify compares the index with its checksum, and checks that it starts at 0, does
// not fall, and stays within the tokens.
func (s *starts) verify(want string, tokens int) (err error) {
	defer recoverFault(s.path, debug.SetPanicOnFault(true), &err)
	sum := sha256.Sum256(s.mapped)
	if hex.EncodeToString(sum[:]) != want {
		return wrongSum(s.path)
	}
	for i, before := 0, 0; i < s.len(); i++ {
		at := s.at(i)
		if at < before || at > tokens || i == 0 && at != 0 {
			return fmt.Errorf("%s: document %d starts at token %d, the one before it at %d, and there are %d tokens", s.path, i, at, before, tokens)
		}
		before = at
	}
	return nil
}
