package prepare

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
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

// encodeSplit writes the token file of one split.
func encodeSplit(ctx context.Context, s *spool, name string, extents []extent, t tokenizer.Tokenizer, dir string, workers int, progress Progress) (info data.SplitInfo, err error) {
	info.File = name + ".bin"
	f, err := os.OpenFile(filepath.Join(dir, info.File), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return info, err
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write %s: %w", info.File, closeErr)
		}
	}()
	var (
		sum   = sha256.New()
		out   = bufio.NewWriterSize(f, 1<<20)
		total stats
	)
	progress.Stage("encode "+name, totalSize(extents))
	err = pieces{
		spool: s, extents: extents, workers: workers, progress: progress,
		cut:  t.NewEncoder().Cut,
		work: func() func(*piece) error { return newPieceEncoder(t).encode },
		take: func(p *piece) error {
			total.add(p.stats)
			sum.Write(p.tokens)
			if _, err := out.Write(p.tokens); err != nil {
				return fmt.Errorf("write %s: %w", info.File, err)
			}
			return nil
		},
	}.run(ctx)
	if err != nil {
		return info, err
	}
	if err := out.Flush(); err != nil {
		return info, fmt.Errorf("write %s: %w", info.File, err)
	}
	if err := f.Sync(); err != nil {
		return info, fmt.Errorf("write %s: %w", info.File, err)
	}
	info.Tokens, info.Words, info.Bytes = total.tokens, total.words, total.bytes
	info.Unknowns, info.Documents = total.unknowns, total.documents
	info.SHA256 = hex.EncodeToString(sum.Sum(nil))
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
