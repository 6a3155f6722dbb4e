package prepare

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
	"path/filepath"

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

// encodeSplit writes the token file of one split and its index of documents.
func encodeSplit(ctx context.Context, s *spool, name string, extents []extent, t tokenizer.Tokenizer, dir string, workers int, progress Progress) (info data.SplitInfo, err error) {
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
	var (
		total stats
		index []byte
	)
	progress.Stage("encode "+name, totalSize(extents))
	err = pieces{
		spool: s, extents: extents, workers: workers, progress: progress,
		cut:  t.NewEncoder().Cut,
		work: func() func(*piece) error { return newPieceEncoder(t).encode },
		take: func(p *piece) error {
			index = index[:0]
			for _, at := range p.starts {
				index = binary.LittleEndian.AppendUint64(index, uint64(total.tokens+at))
			}
			total.add(p.stats)
			return cmp.Or(starts.write(index), tokens.write(p.tokens))
		},
	}.run(ctx)
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

// pieceEncoder encodes pieces for one worker.
type pieceEncoder struct {
	encoder   tokenizer.Encoder
	word      bool // a token is a word or a line end
	width     int
	unknown   int64 // -1 if there is none
	separator int64
	ids       []uint32
}

func newPieceEncoder(t tokenizer.Tokenizer) *pieceEncoder {
	e := &pieceEncoder{encoder: t.NewEncoder(), word: t.Words(), width: 4, unknown: -1, separator: -1}
	if data.TokenType(t.Vocab()) == "uint16" {
		e.width = 2
	}
	if id, ok := t.Unknown(); ok {
		e.unknown = int64(id)
	}
	if id, ok := t.Separator(); ok {
		e.separator = int64(id)
	}
	return e
}

func (e *pieceEncoder) encode(p *piece) (err error) {
	e.ids = e.ids[:0]
	p.stats = stats{bytes: int64(len(p.text))}
	for i, s := range p.spans {
		if s.begins {
			p.stats.documents++
			p.starts = append(p.starts, int64(len(e.ids)))
			if !s.first && e.separator >= 0 {
				e.ids = append(e.ids, uint32(e.separator))
			}
		}
		text := p.text[s.start:s.end]
		part := tokenizer.Middle
		if s.begins {
			part |= tokenizer.Starts
		}
		if s.ends {
			part |= tokenizer.Ends
		}
		if e.ids, err = e.encoder.Encode(e.ids, text, part); err != nil {
			return err
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
		p.stats.words = p.stats.tokens
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
