package lm

import (
	"fmt"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// transformerDecoder keeps the keys and values of every token it has seen, and
// the tokens themselves: when its context is full, it forgets all but the newest
// half of them, and reads that half anew.
type transformerDecoder struct {
	model *transformer
	batch int64
	cache *kvCache
	seen  *ts.Tensor // int64 [batch, context]; the first cache.length() columns count
}

// NewDecoder starts so many texts.
func (m *transformer) NewDecoder(texts int) (Decoder, error) {
	batch := int64(texts)
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

func (d *transformerDecoder) Next(s *torch.Scope, ids [][]int64) (logits *ts.Tensor) {
	s.NoGrad(func() {
		if int64(len(ids)) != d.batch || len(ids[0]) == 0 {
			s.Fail(fmt.Errorf("decode: tokens of %d texts, expected %d", len(ids), d.batch))
			return
		}
		in := torch.FromSlice(s, slices.Concat(ids...), d.batch, int64(len(ids[0])))
		in = d.fit(s, s.To(in, gotch.Int64, d.model.device))
		from, n := d.cache.length(), torch.Shape(in)[1]
		x := d.model.run(s, in, d.cache, Evaluate)
		s.CopyInto(s.Narrow(d.seen, 1, from, n), in)
		logits = d.model.output.LogProbs(s, s.Select(x, 1, n-1))
	})
	return logits
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

func (d *transformerDecoder) Close() {
	d.cache.each(func(t *ts.Tensor) { _ = t.Drop() })
	_ = d.seen.Drop()
}
