package lm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A Decoder continues texts side by side, token by token. A call costs its new
// tokens alone: the tokens before them are in the carried state or in the cache of
// keys and values.
type Decoder interface {
	// Next appends tokens, as many to each text, and returns the log-probabilities
	// [B, V] of the token that follows each.
	// Dropout is off, and no gradients are recorded.
	Next(s *torch.Scope, ids [][]int64) *ts.Tensor

	// Close frees the state.
	Close()
}

// Generation says how texts are continued.
type Generation struct {
	Prompt  []int64 // the tokens to continue, at least one
	Tokens  int     // new ones, at most
	Stop    []int64 // tokens that end a text and are not part of it
	Sampler Sampler
	Seed    uint64
}

// ErrTextEnds is what the function that takes Generate's tokens returns to end a text.
var ErrTextEnds = errors.New("the text ends")

// Generate continues the prompt in as many ways as d has texts and calls yield with
// each new token; where yield returns ErrTextEnds, no more tokens of the text follow.
// Sample number first + i is drawn from a random source of its own: it does not depend
// on the others.
func Generate(ctx context.Context, d Decoder, g Generation, first, texts int, yield func(text int, id int64) error) error {
	if len(g.Prompt) == 0 {
		return fmt.Errorf("generate: the prompt has no token: it needs at least one")
	}
	random := make([]*rand.Rand, texts)
	ended := make([]bool, texts)
	next := make([][]int64, texts)
	drawn := make([]map[int64]int, texts)
	for i := range texts {
		drawn[i] = map[int64]int{}
		random[i] = rand.New(rand.NewPCG(g.Seed, uint64(first+i)))
		next[i] = g.Prompt
	}
	for running := texts; running > 0 && g.Tokens > 0; g.Tokens-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := decode(d, next)
		if err != nil {
			return fmt.Errorf("generate: %w", err)
		}
		vocab := len(logits) / texts
		for i := range texts {
			scores := logits[i*vocab:][:vocab]
			if scores[0] != scores[0] { // a NaN anywhere makes all log-probabilities NaN
				return fmt.Errorf("generate: the model's scores are not numbers (NaN): its weights are damaged, or its training diverged")
			}
			g.Sampler.Penalize(scores, g.Prompt, drawn[i])
			id := int64(g.Sampler.Draw(scores, random[i]))
			next[i] = []int64{id}
			drawn[i][id]++
			if ended[i] {
				continue
			}
			if slices.Contains(g.Stop, id) {
				ended[i], running = true, running-1
				continue
			}
			switch err := yield(i, id); {
			case errors.Is(err, ErrTextEnds):
				ended[i], running = true, running-1
			case err != nil:
				return err
			}
		}
	}
	return nil
}

// decode calls the decoder and copies the log-probabilities to the CPU.
func decode(d Decoder, ids [][]int64) (logits []float32, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		logits = torch.ToSlice[float32](s, d.Next(s, ids))
		return s.Err()
	})
	return logits, err
}

// A stateDecoder keeps all that it needs of a text in the carried state.
type stateDecoder struct {
	model  Model
	device gotch.Device
	state  *RecurrentState
}

// NewStateDecoder returns a decoder for a model that carries its state: it feeds the
// model's Forward piece by piece.
func NewStateDecoder(m Model, texts int, device gotch.Device) (Decoder, error) {
	state, err := m.NewState(int64(texts))
	if err != nil {
		return nil, err
	}
	return &stateDecoder{m, device, state}, nil
}

// decoderPiece bounds how much of a long prompt is in memory at once.
const decoderPiece = 256

func (d *stateDecoder) Next(s *torch.Scope, ids [][]int64) *ts.Tensor {
	var logits *ts.Tensor
	s.NoGrad(func() {
		texts, length := int64(len(ids)), len(ids[0])
		var hidden *ts.Tensor
		for from := 0; from < length; from += decoderPiece {
			steps := min(decoderPiece, length-from)
			x := make([]int64, 0, steps*len(ids))
			for t := range steps {
				for _, text := range ids {
					x = append(x, text[from+t])
				}
			}
			in := s.To(torch.FromSlice(s, x, int64(steps), texts), gotch.Int64, d.device)
			out := d.model.Forward(s, in, d.state, Evaluate).States
			hidden = s.Narrow(out, 0, int64(steps-1)*texts, texts)
		}
		logits = d.model.Output().LogProbs(s, hidden)
	})
	return logits
}

func (d *stateDecoder) Close() { d.state.Close() }

// cacheDecoder keeps the keys and values of every token of a Transformer's context,
// and the tokens themselves: when the context is full, it forgets all but the
// newest half of them, and reads that half again.
type cacheDecoder struct {
	model *transformer
	cache *kvCache
	texts [][]int64 // the tokens in the cache
}

// NewDecoder returns a decoder with a cache of keys and values.
func (m *transformer) NewDecoder(texts int) (Decoder, error) {
	return &cacheDecoder{model: m, cache: newKVCache(len(m.blocks)), texts: make([][]int64, texts)}, nil
}

func (d *cacheDecoder) Next(s *torch.Scope, ids [][]int64) (logits *ts.Tensor) {
	s.NoGrad(func() {
		if len(ids) != len(d.texts) || len(ids[0]) == 0 {
			s.Fail(fmt.Errorf("decode: tokens of %d texts, expected %d", len(ids), len(d.texts)))
			return
		}
		in, n := d.fit(ids)
		batch := int64(len(ids))
		x := d.model.run(s, s.To(torch.FromSlice(s, in, batch, n), gotch.Int64, d.model.device), d.cache, Evaluate)
		logits = d.model.output.LogProbs(s, s.Select(x, 1, n-1))
	})
	return logits
}

// fit appends ids to the texts and returns the tokens to read, n of each: ids while
// they fit the context; else it empties the cache, and the tokens are the newest half
// a context of the text.
func (d *cacheDecoder) fit(ids [][]int64) (tokens []int64, n int64) {
	context, read := int(d.model.config.Context), len(ids[0])
	full := len(d.texts[0])+read > context
	if full {
		d.cache.clear()
		read = max(1, context/2)
	}
	for i := range ids {
		d.texts[i] = append(d.texts[i], ids[i]...)
		newest := d.texts[i][len(d.texts[i])-read:]
		if full {
			d.texts[i] = slices.Clone(newest)
		}
		tokens = append(tokens, newest...)
	}
	return tokens, int64(read)
}

func (d *cacheDecoder) Close() { d.cache.close() }
