package prepare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// defaultBPE is the vocabulary of a byte-level BPE that was given no size.
const defaultBPE = 8192

// given returns the tokenizer that needs no training text, or nil.
func given(opts Options) (tokenizer.Tokenizer, error) {
	switch opts.Tokenizer {
	case "word", "bpe", "char":
		return nil, nil
	case "byte":
		return tokenizer.Byte{}, nil
	}
	t, err := tokenizer.Load(opts.Tokenizer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no tokenizer %q: want word, bpe, byte, char, or a tokenizer.json that is there", opts.Tokenizer)
	}
	return t, err
}

// learn makes the tokenizer from the training text.
func learn(ctx context.Context, s *spool, train []extent, opts Options) (tokenizer.Tokenizer, error) {
	switch opts.Tokenizer {
	case "bpe":
		return learnBPE(ctx, s, train, opts)
	case "char":
		return learnChars(ctx, s, train, opts)
	}
	return learnWords(ctx, s, train, opts)
}

// count lets each worker count the training text into a counter of its own.
// cut finds where a long document may be cut.
func count[C any](ctx context.Context, s *spool, train []extent, opts Options, cut func([]byte) int, fresh func() C, add func(c C, text []byte, at int64)) ([]C, error) {
	var counters []C
	opts.Progress.Stage("count", totalSize(train))
	err := pieces{
		spool: s, extents: train, workers: opts.Workers, progress: opts.Progress,
		cut: cut,
		work: func() func(*piece) error {
			counter := fresh()
			counters = append(counters, counter)
			return func(p *piece) error {
				for _, span := range p.spans {
					add(counter, p.text[span.start:span.end], p.at+int64(span.start))
				}
				return nil
			}
		},
	}.run(ctx)
	return counters, err
}

func learnWords(ctx context.Context, s *spool, train []extent, opts Options) (tokenizer.Tokenizer, error) {
	lines := func(text []byte) int { return bytes.LastIndexByte(text, '\n') + 1 }
	counters, err := count(ctx, s, train, opts, lines,
		func() *tokenizer.WordCounter { return tokenizer.NewWordCounter(opts.Lower) },
		// Twice the place leaves room for the line end that a document may lack.
		func(c *tokenizer.WordCounter, text []byte, at int64) { c.Add(text, 2*uint64(at)) })
	if err != nil {
		return nil, err
	}
	return tokenizer.NewWordFrom(counters, tokenizer.WordOptions{Size: opts.VocabSize, MinCount: opts.MinCount, Lower: opts.Lower})
}

func learnChars(ctx context.Context, s *spool, train []extent, opts Options) (tokenizer.Tokenizer, error) {
	counters, err := count(ctx, s, train, opts, tokenizer.NewCharCounter().Cut, tokenizer.NewCharCounter,
		func(c *tokenizer.CharCounter, text []byte, _ int64) { c.Add(text) })
	if err != nil {
		return nil, err
	}
	return tokenizer.NewCharFrom(counters, opts.VocabSize, opts.MinCount)
}

func learnBPE(ctx context.Context, s *spool, train []extent, opts Options) (tokenizer.Tokenizer, error) {
	counters, err := count(ctx, s, train, opts, tokenizer.NewPieceCounter().Cut, tokenizer.NewPieceCounter,
		func(c *tokenizer.PieceCounter, text []byte, _ int64) { c.Add(text) })
	if err != nil {
		return nil, err
	}
	size := opts.VocabSize
	if size == 0 {
		size = defaultBPE
	}
	opts.Progress.Stage("learn merges", -1)
	return tokenizer.TrainBPE(counters, tokenizer.BPEOptions{Size: size})
}
