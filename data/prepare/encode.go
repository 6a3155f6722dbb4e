package prepare

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"unicode/utf8"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// stats are the counts of a split or of a piece.
type stats struct{ Tokens, Words, Bytes, Unknowns, Documents int64 }

func (s *stats) add(o stats) {
	s.Tokens += o.Tokens
	s.Words += o.Words
	s.Bytes += o.Bytes
	s.Unknowns += o.Unknowns
	s.Documents += o.Documents
}

// tokenFile is a file of a split that is being written.
type tokenFile struct {
	name   string
	f      *os.File
	size   int64
	sum    hash.Hash
	loose  int        // bytes since the last sync was started
	synced chan error // holds the error of the last sync once that has ended
}

// syncEvery is the number of bytes after which they are put on disk in the background, so
// that the end need not wait for all of them.
const syncEvery = 4 << 20

// newTokenFile opens a file to write after what is done.
func newTokenFile(dir, name string, done fileProgress) (*tokenFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	if done.Size > 0 {
		err = sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(done.Sum)
	}
	if err == nil {
		err = f.Truncate(done.Size)
	}
	if err == nil {
		_, err = f.Seek(done.Size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("continue %s: %w", name, err), f.Close())
	}
	t := &tokenFile{name: name, f: f, size: done.Size, sum: sum, synced: make(chan error, 1)}
	t.synced <- nil
	return t, nil
}

func (f *tokenFile) write(p []byte) error {
	f.size += int64(len(p))
	f.sum.Write(p)
	if _, err := f.f.Write(p); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	if f.loose += len(p); f.loose < syncEvery {
		return nil
	}
	select {
	case err := <-f.synced:
		go func() { f.synced <- cmp.Or(err, f.f.Sync()) }()
		f.loose = 0
	default: // a sync is under way
	}
	return nil
}

// sync puts what is written on disk.
func (f *tokenFile) sync() (done fileProgress, err error) {
	err = cmp.Or(<-f.synced, f.f.Sync())
	f.synced <- err
	if err != nil {
		return done, fmt.Errorf("write %s: %w", f.name, err)
	}
	f.loose = 0
	done.Size = f.size
	done.Sum, err = f.sum.(encoding.BinaryMarshaler).MarshalBinary()
	return done, err
}

// sha256 is the digest of the file.
func (f *tokenFile) sha256() string { return hex.EncodeToString(f.sum.Sum(nil)) }

func (f *tokenFile) close(err *error) {
	<-f.synced
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

// encode writes the token file of one split and its index of documents, after what the
// journal has of them. limit is the largest number of tokens; 0 is no limit.
func (se splitEncoder) encode(ctx context.Context, name string, extents []extent, limit int64, dir string, j *journal, progress Progress) (info data.SplitInfo, err error) {
	info.File = name + ".bin"
	done := j.state.Splits[name]
	tokens, err := newTokenFile(dir, info.File, done.Tokens)
	if err != nil {
		return info, err
	}
	defer tokens.close(&err)
	starts, err := newTokenFile(dir, data.StartsFile(name), done.Starts)
	if err != nil {
		return info, err
	}
	defer starts.close(&err)
	save := func() (err error) {
		if done.Tokens, err = tokens.sync(); err != nil {
			return err
		}
		if done.Starts, err = starts.sync(); err != nil {
			return err
		}
		if done.Pieces < saveEvery {
			return nil
		}
		return j.note(name, done)
	}
	progress.Stage("encode "+name, totalSize(extents))
	var index []byte
	err = se.each(ctx, extents, limit, &done.counted, progress, func(before int64, p *piece) error {
		index = index[:0]
		for _, at := range p.starts {
			index = binary.LittleEndian.AppendUint64(index, uint64(before+at))
		}
		if err := cmp.Or(starts.write(index), tokens.write(p.tokens)); err != nil || done.Pieces%saveEvery != 0 {
			return err
		}
		return save()
	})
	if err != nil {
		return info, err
	}
	if err := save(); err != nil {
		return info, err
	}
	total := done.Stats
	info.SHA256, info.Starts = tokens.sha256(), starts.sha256()
	info.Tokens, info.Words, info.Bytes = total.Tokens, total.Words, total.Bytes
	info.Unknowns, info.Documents = total.Unknowns, total.Documents
	return info, nil
}

// errEnough ends reading pieces.
var errEnough = errors.New("enough")

// counted is a number of pieces, and what is in them.
type counted struct {
	Pieces int
	Stats  stats
}

// each encodes extents after the pieces that are counted, adds to done, and passes the
// pieces to take, with the number of tokens before each. At most limit tokens are
// passed, unless limit is 0: the last piece is then shortened.
func (se splitEncoder) each(ctx context.Context, extents []extent, limit int64, done *counted, progress Progress, take func(before int64, p *piece) error) error {
	if limit > 0 && done.Stats.Tokens == limit {
		return nil
	}
	total := &done.Stats
	err := pieces{
		spool: se.spool, extents: extents, skip: done.Pieces, workers: se.workers, progress: progress,
		cut:  se.t.NewEncoder().Cut,
		work: func() func(*piece) error { return newPieceEncoder(se.t, se.frame).encode },
		take: func(p *piece) error {
			full := limit > 0 && total.Tokens+p.stats.Tokens > limit
			if full {
				if err := newPieceEncoder(se.t, se.frame).shorten(p, limit-total.Tokens); err != nil {
					return err
				}
			}
			before := total.Tokens
			total.add(p.stats)
			done.Pieces++
			if err := take(before, p); err != nil || !full {
				return err
			}
			return errEnough
		},
	}.run(ctx)
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
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
	p.stats = stats{Bytes: int64(len(p.text))}
	framing := 0
	add := func(id int64) {
		if id >= 0 {
			e.ids = append(e.ids, uint32(id))
			framing++
		}
	}
	for i, s := range p.spans {
		if s.begins {
			p.stats.Documents++
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
			p.stats.Words += int64(words + lines)
		}
	}
	p.stats.Tokens = int64(len(e.ids))
	if e.word {
		p.stats.Words = p.stats.Tokens - int64(framing)
	}
	if e.unknown >= 0 {
		for _, id := range e.ids {
			if int64(id) == e.unknown {
				p.stats.Unknowns++
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
		return p.stats.Tokens, err
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
	dst = slices.Grow(dst, width*len(ids))
	at := dst[len(dst) : len(dst)+width*len(ids)]
	if width == 2 {
		for i, id := range ids {
			binary.LittleEndian.PutUint16(at[2*i:], uint16(id))
		}
	} else {
		for i, id := range ids {
			binary.LittleEndian.PutUint32(at[4*i:], id)
		}
	}
	return dst[:len(dst)+len(at)]
}
