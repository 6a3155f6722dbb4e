package lm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// Result is a model's loss over a text.
type Result struct {
	Nats   float64 // mean cross-entropy in nats per token
	Tokens int64   // predicted
}

// Perplexity is exp(nats).
func (r Result) Perplexity() float64 { return math.Exp(r.Nats) }

// WordPerplexity is the perplexity per word of a text with so many tokens and
// words: exp(nats * tokens / words). It compares tokenizers.
func (r Result) WordPerplexity(tokens, words int64) float64 {
	return math.Exp(r.Nats * float64(tokens) / float64(words))
}

// BitsPerByte is the code length of a text with so many tokens and bytes.
func (r Result) BitsPerByte(tokens, bytes int64) float64 {
	return r.Nats * float64(tokens) / float64(bytes) / math.Ln2
}

// EvaluateText scores the batches of an evaluation batcher, dropout off.
func EvaluateText(ctx context.Context, m Model, batches data.Batcher, device gotch.Device) (Result, error) {
	var (
		state *RecurrentState
		total float64
		r     Result
	)
	defer func() { state.Close() }()
	for {
		b, err := batches.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Result{}, err
		}
		if err := ctx.Err(); err != nil {
			return Result{}, err
		}
		if b.Predictions == 0 {
			continue // a part of a group's batch at the end of the text
		}
		if state == nil {
			if state, err = m.NewState(int64(b.B)); err != nil {
				return Result{}, err
			}
		}
		if b.Fresh {
			if err := state.Reset(); err != nil {
				return Result{}, err
			}
		}
		err = torch.Do(func(s *torch.Scope) error {
			s.NoGrad(func() {
				in := toDevice(s, b, m.TimeMajor(), device)
				out := m.Forward(s, in.ids, state, Evaluate)
				loss := m.Output().Loss(s, out.States, in.targets, torch.CrossEntropyOptions{})
				total += loss.Nats * float64(loss.Tokens)
				r.Tokens += loss.Tokens
			})
			return s.Err()
		})
		if err != nil {
			return Result{}, fmt.Errorf("evaluate: %w", err)
		}
	}
	if r.Tokens > 0 {
		r.Nats = total / float64(r.Tokens)
	}
	return r, nil
}
