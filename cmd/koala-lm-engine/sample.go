package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/tracking"
)

// A run that ends well leaves a sample of what it learnt to write: enough to see
// whether perplexity became sense, and short beside an evaluation.
const (
	sampleTokens      = 120
	sampleTemperature = 0.8
)

// recordSample adds a text by the trained model to the run's events. The same
// weights and seed give the same text.
func recordSample(ctx context.Context, run *tracking.Run, trainer *lm.Trainer, dataset *data.Dataset) error {
	tok, err := dataset.Tokenizer()
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	prompt, err := promptTokens(tok, "")
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	d, err := trainer.Model.NewDecoder(1)
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	defer d.Close()
	g := lm.Generation{
		Prompt: prompt, Tokens: sampleTokens, Seed: uint64(trainer.Config.Seed),
		Sampler: lm.Sampler{Temperature: sampleTemperature},
	}
	var text strings.Builder
	stream := tokenizer.NewStream(tok, -1)
	err = lm.Generate(ctx, d, g, 0, 1, func(_ int, id int64) error {
		text.WriteString(stream.Next(uint32(id)))
		return nil
	})
	if err != nil && !errors.Is(err, ctx.Err()) {
		return fmt.Errorf("sample: %w", err)
	}
	text.WriteString(stream.Rest())
	return run.Event("sample", strings.TrimSpace(text.String()))
}
