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
	Tokens int64   // number of predicted tokens
}

// Perplexity is e^Nats.
func (r Result) Perplexity() float64 { return math.Exp(r.Nats) }

// WordPerplexity is the perplexity per word of a text with the given numbers of
// tokens and words: exp(nats * tokens / words). It is comparable between tokenizers.
func (r Result) WordPerplexity(tokens, words int64) float64 {
	return math.Exp(r.Nats * float64(tokens) / float64(words))
}

// BitsPerByte is the code length of a text with the given numbers of tokens and
// bytes.
func (r Result) BitsPerByte(tokens, bytes int64) float64 {
	return r.Nats * float64(tokens) / float64(bytes) / math.Ln2
}

// Reading configures how a text is cut into batches to score it.
type Reading struct {
	Batch  int // sequences side by side
	Length int // tokens of a piece, for a model that carries its state
	Stride int // tokens that each window scores, for a model without a carried state; 0: all of its context

	// WithinDocuments makes a model without a carried state read each document by itself.
	WithinDocuments bool
}

// Batches cuts a text for a model, so that each token but the first is predicted
// once: into consecutive pieces for a model that carries its state, else into
// windows of the model's context. A text that is shorter has shorter windows, and one of few
// windows fewer side by side: nothing is computed for places without a token.
func (r Reading) Batches(m Model, text *data.Tokens, options ...data.BatchOption) (data.Batcher, error) {
	options = append([]data.BatchOption{data.Evaluation()}, options...)
	predictions := text.Len() - 1
	batch, context := min(r.Batch, predictions), int(m.Context())
	switch {
	case m.CarriesState() && r.Stride > 0:
		return nil, fmt.Errorf("stride %d needs a model that reads windows, and a %s carries its state through the whole text", r.Stride, m.Config().Kind)
	case m.CarriesState():
		return data.NewContiguous(text, batch, r.Length, options...)
	case r.Stride > context:
		return nil, fmt.Errorf("stride %d is longer than the model's context of %d tokens", r.Stride, context)
	}
	if r.WithinDocuments {
		options = append(options, data.WithinDocuments())
	}
	context = max(1, min(context, predictions))
	stride := context
	if r.Stride > 0 {
		stride = min(r.Stride, context)
	}
	windows := 1 + (max(0, predictions-context)+stride-1)/stride
	return data.NewSequential(text, min(batch, windows), context, append(options, data.Stride(stride))...)
}

// EvaluateText scores the batches of an evaluation batcher, without dropout.
func EvaluateText(ctx context.Context, m Model, batches data.Batcher, device gotch.Device) (Result, error) {
	return EvaluateTokens(ctx, m, batches, device, nil)
}

// EvaluateTokens is EvaluateText, and calls each, if it is not nil, with every batch and the
// losses of its targets, 0 where a target is Ignore.
func EvaluateTokens(ctx context.Context, m Model, batches data.Batcher, device gotch.Device, each func(b data.Batch, nats []float64) error) (Result, error) {
	var (
		state *RecurrentState
		total float64
		nats  []float64
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
			continue // a rank's empty share of the text's last batch
		}
		if state == nil {
			if state, err = m.NewState(int64(b.B)); err != nil {
				return Result{}, err
			}
		}
		if b.ResetState {
			if err := state.Reset(); err != nil {
				return Result{}, err
			}
		}
		err = torch.Do(func(s *torch.Scope) error {
			s.NoGrad(func() {
				in := toDevice(s, b, m.TimeMajor(), device)
				out := m.Forward(s, in.Input, state, Evaluate)
				loss := m.Output().Loss(s, out.States, in.targets, torch.CrossEntropyOptions{PerToken: each != nil, Targets: in.host})
				total += loss.Nats * float64(loss.Tokens)
				r.Tokens += loss.Tokens
				if each != nil {
					nats = torch.ToSlice[float64](s, loss.PerToken)
					if timeMajor := m.TimeMajor(); timeMajor && !b.TimeMajor {
						nats = transposed(nats, []int64{int64(b.T), int64(b.B)})
					} else if b.TimeMajor && !timeMajor {
						nats = transposed(nats, []int64{int64(b.B), int64(b.T)})
					}
				}
			})
			return s.Err()
		})
		if err == nil && each != nil {
			err = each(b, nats)
		}
		if err != nil {
			return Result{}, fmt.Errorf("evaluate: %w", lower(err, "eval.batch (--batch of eval)"))
		}
	}
	if r.Tokens > 0 {
		r.Nats = total / float64(r.Tokens)
	}
	return r, nil
}
