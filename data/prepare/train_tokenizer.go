package prepare

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/koala-lm/koala-lm/data/corpus"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// givenTokenizer returns the tokenizer that needs no training text, or nil.
func givenTokenizer(opts Options) (tokenizer.Tokenizer, error) {
	if kind, ok := tokenizer.FindKind(opts.Tokenizer); ok {
		return kind.Fixed, nil
	}
	t, err := tokenizer.Load(opts.Tokenizer)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no tokenizer %q: want %s, or the file of a tokenizer that exists", opts.Tokenizer, tokenizer.KindNames())
	}
	return t, err
}

// trainTokenizer learns the tokenizer from the training text: each worker counts
// into a counter of its own.
func trainTokenizer(ctx context.Context, s *spool, train []extent, opts Options) (tokenizer.Tokenizer, error) {
	kind, _ := tokenizer.FindKind(opts.Tokenizer)
	trainer, err := kind.NewTrainer(tokenizer.TrainOptions{Size: opts.VocabSize, MinCount: opts.MinCount, Lower: opts.Lower, Split: opts.Split, Documents: opts.TrainBy == "documents", Special: opts.SpecialTokens})
	if err != nil {
		return nil, err
	}
	opts.Progress.Stage("count", totalSize(train))
	err = pieces{
		spool: s, extents: train, workers: opts.Workers, progress: opts.Progress, cut: trainer.Cut,
		work: func() func(*piece) error {
			counter := trainer.NewCounter()
			return func(p *piece) error {
				for _, span := range p.spans {
					counter.Add(p.text[span.start:span.end], p.at+int64(span.start), span.part())
				}
				return nil
			}
		},
	}.run(ctx)
	if err != nil {
		return nil, err
	}
	opts.Progress.Stage("learn", -1)
	return trainer.Train()
}

// trainOnText learns the tokenizer from a text of its own. spooled is the path of a
// temporary file.
func trainOnText(ctx context.Context, spooled string, opts Options) (tokenizer.Tokenizer, error) {
	found, err := corpus.Find(opts.TokenizerText, opts.reading(nil))
	if err != nil {
		return nil, err
	}
	s, err := newSpool(spooled, opts.ReplaceInvalid)
	if err != nil {
		return nil, err
	}
	defer s.close()
	opts.Progress.Stage("read", -1)
	for _, source := range append(found.Loose, found.Splits["train"]...) {
		if _, err := source.Read(ctx, s); err != nil {
			return nil, err
		}
	}
	if err := s.finish(); err != nil {
		return nil, err
	}
	if len(s.ends) == 0 {
		return nil, fmt.Errorf("there is no text in %s: nothing to train a tokenizer on", opts.TokenizerText[0])
	}
	documents := make([]extent, len(s.ends))
	for i := range documents {
		documents[i] = s.document(i)
	}
	return trainTokenizer(ctx, s, documents, opts)
}
