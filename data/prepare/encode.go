package prepare

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// stats are the counts of a split or of a piece.
type stats struct{ tokens, words, bytes, unknowns, documents int64 }

func (s *stats) add(o stats) {
	s.tokens += o.tokens
	s.words += o.words
	s.bytes += o.bytes
	s.unknowns += o.unknowns
	s.documents += o.documents
}

// tokenFile is a file of a split that is being written.
type tokenFile struct {
	name string
	f    *os.File
	out  *bufio.Writer
	sum  hash.Hash
}

func newTokenFile(dir, name string) (*tokenFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	return &tokenFile{name, f, bufio.NewWriterSize(f, 1<<18), sha256.New()}, nil
}

func (f *tokenFile) write(p []byte) error {
	f.sum.Write(p)
	if _, err := f.out.Write(p); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	return nil
}

// finish makes the file durable and returns its SHA-256.
func (f *tokenFile) finish() (string, error) {
	err := f.out.Flush()
	if err == nil {
		err = f.f.Sync()
	}
	if err != nil {
		return "", fmt.Errorf("write %s: %w", f.name, err)
	}
	return hex.EncodeToString(f.sum.Sum(nil)), nil
}

func (f *tokenFile) close(err *error) {
	if closeErr := f.f.Close(); *err == nil && closeErr != nil {
		*err = fmt.Errorf("write %s: %w", f.name, closeErr)
	}
}

// splitEncoder encodes extents of the spool.
type splitEncoder struct {
	spool   *spool
	t       tokenizer.Tokenizer
	frame   frame
	workers int
}

// encode writes the token file of one split and its index of documents. limit is the
// largest number of tokens; 0 is no limit.
func (se splitEncoder) encode(ctx context.Context, name string, extents []extent, limit int64, dir string, progress Progress) (info data.SplitInfo, err error) {
	info.File = name + ".bin"
	tokens, err := newTokenFile(dir, info.File)
	if err != nil {
		return info, err
	}
	defer tokens.close(&err)
	starts, err := newTokenFile(dir, data.StartsFile(name))
	if err != nil {
		return info, err
	}
	defer starts.close(&err)
	progress.Stage("encode "+name, totalSize(extents))
	var index []byte
	total, err := se.each(ctx, extents, limit, progress, func(before int64, p *piece) error {
		index = index[:0]
		for _, at := range p.starts {
			index = binary.LittleEndian.AppendUint64(index, uint64(before+at))
		}
		return cmp.Or(starts.write(index), tokens.write(p.tokens))
	})
	if err != nil {
		return info, err
	}
	if info.SHA256, err = tokens.finish(); err != nil {
		return info, err
	}
	if info.Starts, err = starts.finish(); err != nil {
		return info, err
	}
	info.Tokens, info.Words, info.Bytes = total.tokens, total.words, total.bytes
	info.Unknowns, info.Documents = total.unknowns, total.documents
	return info, nil
}

// errEnough ends reading pieces.
var errEnough = errors.New("enough")

// each encodes extents and passes the pieces to take, with the number of tokens
// before each. At most limit tokens are passed, unless limit is 0: the last piece is
// then shortened.
func (se splitEncoder) each(ctx context.Context, extents []extent, limit int64, progress Progress, take func(before int64, p *piece) error) (total stats, err error) {
	err = pieces{
		spool: se.spool, extents: extents, workers: se.workers, progress: progress,
		cut:  se.t.NewEncoder().Cut,
		work: func() func(*piece) error { return newPieceEncoder(se.t, se.frame).encode },
		take: func(p *piece) error {
			full := limit > 0 && total.tokens+p.stats.tokens > limit
			if full {
				if err := newPieceEncoder(se.t, se.frame).shorten(p, limit-total.tokens); err != nil {
					return err
				}
			}
			before := total.tokens
			total.add(p.stats)
			if err := take(before, p); err != nil || !full {
				return err
			}
			return errEnough
		},
	}.run(ctx)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return total, err
}

// pieceEncoder encodes pieces for one worker.
type pieceEncoder struct {
	encoder tokenizer.Encoder
	frame   frame
	word    bool // a token is a word or a line end
	width   int
	unknown int64 // -1 if there is none
	ids     []uint32
}

func newPieceEncoder(t tokenizer.Tokenizer, around frame) *pieceEncoder {
	e := &pieceEncoder{encoder: t.NewEncoder(), frame: around, word: t.Words(), width: 4, unknown: -1}
	if data.TokenType(t.Vocab()) == "uint16" {
		e.width = 2
	}
	if id, ok := t.Unknown(); ok {
		e.unknown = int64(id)
	}
	return e
}

func (e *pieceEncoder) encode(p *piece) (err error) {
	e.ids = e.ids[:0]
	p.starts = p.starts[:0]
	p.stats = stats{bytes: int64(len(p.text))}
	framing := 0
	add := func(id int64) {
		if id >= 0 {
			e.ids = append(e.ids, uint32(id))
			framing++
		}
	}
	for i, s := range p.spans {
		if s.begins {
			p.stats.documents++
			p.starts = append(p.starts, int64(len(e.ids)))
			if !s.first {
				add(e.frame.separator)
			}
			add(e.frame.bos)
		}
		text := p.text[s.start:s.end]
		if e.ids, err = e.encoder.Encode(e.ids, text, s.part()); err != nil {
			return err
		}
		if s.ends {
			add(e.frame.eos)
		}
		if !e.word {
			// Only the last span of a piece can continue in the next piece.
			words, lines := tokenizer.CountWords(text)
			if i == len(p.spans)-1 && p.continues && text[len(text)-1] != '\n' {
				lines--
			}
			if s.joined {
				words--
			}
			p.stats.words += int64(words + lines)
		}
	}
	p.stats.tokens = int64(len(e.ids))
	if e.word {
		p.stats.words = p.stats.tokens - int64(framing)
	}
	if e.unknown >= 0 {
		for _, id := range e.ids {
			if int64(id) == e.unknown {
				p.stats.unknowns++
			}
		}
	}
	p.tokens = appendTokens(p.tokens[:0], e.ids, e.width)
	return nil
}

// shorten cuts a piece to the longest text that has at most limit tokens, and encodes
// that.
func (e *pieceEncoder) shorten(p *piece, limit int64) error {
	whole := *p
	count := func(n int) (int64, error) {
		p.text, p.spans, p.continues = whole.text[:n], nil, false
		for _, s := range whole.spans {
			if s.start >= n {
				break
			}
			if s.end > n {
				s.end, s.ends = n, true
			}
			p.spans = append(p.spans, s)
		}
		err := e.encode(p)
		return p.stats.tokens, err
	}
	best := 0
	for low, high := 0, len(whole.text); low+1 < high; { // a binary search
		middle := (low + high) / 2
		head := shorter(whole.text, middle)
		n, err := count(head)
		if err != nil {
			return err
		}
		if n <= limit {
			low, best = middle, max(best, head)
		} else {
			high = max(head, low+1)
		}
	}
	_, err := count(best)
	return err
}

// shorter returns the last place at or before n where text may end: after a line end,
// else after a space, else after a character.
func shorter(text []byte, n int) int {
	for _, mark := range []byte{'\n', ' '} {
		if i := bytes.LastIndexByte(text[:n], mark); i >= 0 {
			return i + 1
		}
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return n
}

// appendTokens appends ids in the format of the token files.
func appendTokens(dst []byte, ids []uint32, width int) []byte {
	if width == 2 {
		for _, id := range ids {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(id))
		}
		return dst
	}
	for _, id := range ids {
		dst = binary.LittleEndian.AppendUint32(dst, id)
	}
	return dst
}
