package lm

import (
	"fmt"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A Decoder continues texts: it keeps what it has seen of them, so that a token
// costs one token's work and not the whole text's. What it returns is what a
// forward pass over the text would, dropout off.
type Decoder interface {
	// Next takes in ids, int64 [batch, n], the next n >= 1 tokens of each text,
	// and returns the hidden states after the last of them, [batch, D], which
	// Model.Output turns into the distribution of the next token.
	//
	// A Transformer whose context is full forgets all but the newest half of it,
	// and reads that anew.
	Next(s *torch.Scope, ids *ts.Tensor) *ts.Tensor

	// Reset forgets the texts.
	Reset() error

	// Close frees what it has seen.
	Close()
}

// recurrentDecoder carries a recurrent model's state.
type recurrentDecoder struct {
	model Model
	state *State
}

func newRecurrentDecoder(m Model, batch int64) (Decoder, error) {
	state, err := m.NewState(batch)
	if err != nil {
		return nil, err
	}
	return &recurrentDecoder{m, state}, nil
}

func (d *recurrentDecoder) Next(s *torch.Scope, ids *ts.Tensor) (last *ts.Tensor) {
	s.NoGrad(func() {
		shape := torch.Shape(ids)
		if len(shape) != 2 {
			s.Fail(fmt.Errorf("decode: ids are %s, expected int64[batch, n]", torch.Describe(ids)))
			return
		}
		h := d.model.Forward(s, s.Contiguous(s.Transpose(ids, 0, 1)), d.state, Evaluate).States
		last = s.Narrow(h, 0, (shape[1]-1)*shape[0], shape[0])
	})
	return last
}

func (d *recurrentDecoder) Reset() error { return d.state.Reset() }
func (d *recurrentDecoder) Close()       { d.state.Close() }

// transformerDecoder keeps the keys and values of every token it has seen, and
// the tokens themselves for when the context is full.
type transformerDecoder struct {
	model *transformer
	batch int64
	cache *kvCache
	seen  *ts.Tensor // int64 [batch, context]; the first cache.length() columns count
}

func (m *transformer) NewDecoder(batch int64) (Decoder, error) {
	d := &transformerDecoder{model: m, batch: batch}
	err := torch.Do(func(s *torch.Scope) error {
		cache := newKVCache(s, m, batch)
		seen := s.Zeros([]int64{batch, m.config.Context}, gotch.Int64, m.device)
		if s.OK() {
			cache.each(func(t *ts.Tensor) { s.Keep(t) })
			d.cache, d.seen = cache, s.Keep(seen)
		}
		return s.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("make room for keys and values: %w", err)
	}
	return d, nil
}

func (d *transformerDecoder) Next(s *torch.Scope, ids *ts.Tensor) (last *ts.Tensor) {
	s.NoGrad(func() {
		shape := torch.Shape(ids)
		if len(shape) != 2 || shape[0] != d.batch || shape[1] < 1 {
			s.Fail(fmt.Errorf("decode: ids are %s, expected int64[%d, n]", torch.Describe(ids), d.batch))
			return
		}
		ids := d.fit(s, ids)
		from, n := d.cache.length(), torch.Shape(ids)[1]
		x := d.model.run(s, ids, d.cache, Evaluate)
		s.CopyInto(s.Narrow(d.seen, 1, from, n), ids)
		last = s.Select(x, 1, n-1)
	})
	return last
}

// fit returns ids as they are while they fit the context; else it empties the
// cache and returns the newest half a context of the text.
func (d *transformerDecoder) fit(s *torch.Scope, ids *ts.Tensor) *ts.Tensor {
	from, n, context := d.cache.length(), torch.Shape(ids)[1], d.model.config.Context
	if from+n <= context {
		return ids
	}
	text := s.Cat(1, s.Narrow(d.seen, 1, 0, from), ids)
	d.cache.clear()
	keep := max(1, context/2)
	return s.Narrow(text, 1, from+n-keep, keep)
}

func (d *transformerDecoder) Reset() error { d.cache.clear(); return nil }

func (d *transformerDecoder) Close() {
	d.cache.each(func(t *ts.Tensor) { _ = t.Drop() })
	_ = d.seen.Drop()
}
