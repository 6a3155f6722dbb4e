package lm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A Decoder continues several texts in parallel, token by token. A call computes
// only its new tokens: the carried state or the cache of keys and values holds the
// earlier ones.
type Decoder interface {
	// Next appends the same number of tokens to each text, and returns the logits [B,
	// V] of the next token of each text. Dropout is off, and no gradients are
	// recorded.
	Next(s *torch.Scope, ids [][]int64) *ts.Tensor

	// Newest returns the tokens that a first Next with these ids reads: all of them, or
	// the last ones if they do not fit the model's context.
	Newest(ids []int64) []int64

	// Close frees the state.
	Close()
}

// Generation configures the continuation of texts.
type Generation struct {
	Tokens  int     // largest number of new tokens
	Stop    []int64 // tokens that end a text and are not part of it
	Sampler Sampler
	Seed    uint64

	// LogProbs asks for the log-probabilities of the drawn tokens.
	LogProbs bool
}

// A Text is a prompt to continue.
type Text struct {
	Prompt []int64 // at least one token
	Sample int     // Seed and Sample are the seed of its random source
}

// A Drawn is a token of a generated text.
type Drawn struct {
	ID int64
	// LogProb is the model's log-probability, before penalties, temperature and cuts; 0
	// unless Generation.LogProbs asks for it.
	LogProb float64
}

// ErrTextEnds is returned by the yield function of Generate to end a text.
var ErrTextEnds = errors.New("the text ends")

// Generate continues the texts of d and calls yield with each new token. If yield
// returns ErrTextEnds, the text gets no more tokens. A text does not depend on the
// others.
//
// All texts have the same length at all times, so that nothing is padded: the
// decoder reads as much of the prompts as the shortest has, and then the rest of the
// longer ones token by token while it continues the shorter ones.
func Generate(ctx context.Context, d Decoder, g Generation, texts []Text, yield func(text int, token Drawn) error) error {
	next, rest := make([][]int64, len(texts)), make([][]int64, len(texts))
	random := make([]*rand.Rand, len(texts))
	drawn := make([]map[int64]int, len(texts))
	left := make([]int, len(texts)) // number of new tokens that a text may still get
	shortest, running := math.MaxInt, 0
	for i, text := range texts {
		if len(text.Prompt) == 0 {
			return fmt.Errorf("generate: the prompt has no token: it needs at least one")
		}
		rest[i] = d.Newest(text.Prompt)
		shortest = min(shortest, len(rest[i]))
		random[i] = rand.New(rand.NewPCG(g.Seed, uint64(text.Sample)))
		drawn[i] = map[int64]int{}
		if left[i] = g.Tokens; g.Tokens > 0 {
			running++
		}
	}
	for i := range texts {
		next[i], rest[i] = rest[i][:shortest], rest[i][shortest:]
	}
	for running > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		logits, err := decode(d, next)
		if err != nil {
			return fmt.Errorf("generate: %w", err)
		}
		vocab := len(logits) / len(texts)
		for i := range texts {
			if len(rest[i]) > 0 {
				next[i], rest[i] = rest[i][:1], rest[i][1:]
				continue
			}
			if left[i] == 0 { // the decoder reads its last token again, without effect on others
				next[i] = next[i][len(next[i])-1:]
				continue
			}
			scores := logits[i*vocab:][:vocab]
			if slices.ContainsFunc(scores, func(v float32) bool { return !(v <= math.MaxFloat32) }) {
				return fmt.Errorf("generate: the model's scores are not numbers (NaN or infinite): its weights are damaged, or its training diverged")
			}
			var own []float32 // the model's scores
			if g.LogProbs {
				own = slices.Clone(scores)
			}
			g.Sampler.Penalize(scores, texts[i].Prompt, drawn[i])
			id := int64(g.Sampler.Draw(scores, random[i]))
			next[i] = []int64{id}
			drawn[i][id]++
			left[i]--
			if slices.Contains(g.Stop, id) {
				left[i] = 0
			} else {
				token := Drawn{ID: id}
				if g.LogProbs {
					token.LogProb = logProb(own, id)
				}
				if err := yield(i, token); errors.Is(err, ErrTextEnds) {
					left[i] = 0
				} else if err != nil {
					return err
				}
			}
			if left[i] == 0 {
				running--
			}
		}
	}
	return nil
}

// Batches divides texts into batches of at most size texts to generate together, as
// their indices. The prompts of a batch differ in length by at most tokens, the
// number of new tokens, so that a batch takes no more steps than its texts one by
// one. The batch of the first text comes first.
func Batches(texts []Text, tokens, size int) [][]int {
	length := func(i int) int { return len(texts[i].Prompt) }
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(length(a), length(b)) })
	var batches [][]int
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && to-from < size && length(order[to])-length(order[from]) <= tokens {
			to++
		}
		batch := order[from:to]
		slices.Sort(batch)
		batches, from = append(batches, batch), to
	}
	slices.SortFunc(batches, func(a, b []int) int { return cmp.Compare(a[0], b[0]) })
	return batches
}

// decode calls the decoder and copies the logits to the CPU.
func decode(d Decoder, ids [][]int64) (logits []float32, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		logits = torch.ToSlice[float32](s, d.Next(s, ids))
		return s.Err()
	})
	return logits, err
}

// A stateDecoder keeps the text so far in the carried state.
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

// decoderPiece bounds the part of a long prompt that is in memory at once.
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
			in := s.Upload(torch.FromSlice(s, x, int64(steps), texts), d.device)
			out := d.model.Forward(s, Input{IDs: in}, d.state, Evaluate).States
			hidden = s.Narrow(out, 0, int64(steps-1)*texts, texts)
		}
		logits = d.model.Output().Logits(s, hidden)
	})
	return logits
}

func (d *stateDecoder) Newest(ids []int64) []int64 { return ids }

func (d *stateDecoder) Close() { d.state.Close() }

// cacheDecoder keeps the keys and values of every token of a Transformer's context,
// and the tokens themselves. When the context is full, it keeps only the newest half
// of the tokens and reads them again.
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
		x := d.model.run(s, Input{IDs: s.Upload(torch.FromSlice(s, in, batch, n), d.model.device)}, d.cache, Evaluate)
		logits = d.model.output.Logits(s, s.Select(x, 1, n-1))
	})
	return logits
}

// fit appends ids to the texts and returns the tokens to read, n of each text. If
// ids fit the context, they are the tokens to read. Otherwise fit empties the cache
// and returns the text's last tokens, half a context.
func (d *cacheDecoder) fit(ids [][]int64) (tokens []int64, n int64) {
	read := len(ids[0])
	full := int64(len(d.texts[0])+read) > d.model.config.Context
	if full {
		d.cache.clear()
		read = d.half()
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

// half is the number of tokens that the decoder keeps when the context is full.
func (d *cacheDecoder) half() int { return max(1, int(d.model.config.Context/2)) }

func (d *cacheDecoder) Newest(ids []int64) []int64 {
	if int64(len(ids)) <= d.model.config.Context {
		return ids
	}
	return ids[len(ids)-d.half():]
}

func (d *cacheDecoder) Close() { d.cache.close() }
