package lm

import (
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// attention is causal self-attention with several heads (Vaswani et al. 2017).
// With fewer heads of keys and values than of queries, neighbouring heads share
// theirs (Ainslie et al. 2023).
type attention struct {
	heads, kvHeads, width int64 // width of a head
	// in makes queries, keys and values: one layer for all three, or one each.
	in     []linear
	out    linear
	rotary *rotary // nil where positions are learned
}

// apply runs over x [B, T, D] and returns its branch, [B, T, D]. With a cache x
// continues what the cache has seen.
func (a *attention) apply(s *torch.Scope, x *ts.Tensor, cache *layerCache, dropout float64) *ts.Tensor {
	shape := torch.Shape(x)
	if !s.OK() {
		return nil
	}
	batch, length := shape[0], shape[1]
	q, k, v := a.project(s, x, batch, length)
	from := cache.length()
	if a.rotary != nil {
		q, k = a.rotary.apply(s, q, from), a.rotary.apply(s, k, from)
	}
	k, v = cache.extend(s, k, v)
	y := s.Attention(q, k, v, from, dropout)
	return a.out.apply(s, s.Reshape(s.Transpose(y, 1, 2), batch, length, a.heads*a.width))
}

// project returns queries [B, heads, T, width], keys and values [B, kvHeads, T, width].
func (a *attention) project(s *torch.Scope, x *ts.Tensor, batch, length int64) (q, k, v *ts.Tensor) {
	heads := func(y *ts.Tensor, n int64) *ts.Tensor {
		return s.Transpose(s.Reshape(y, batch, length, n, a.width), 1, 2)
	}
	if len(a.in) == 3 {
		return heads(a.in[0].apply(s, x), a.heads), heads(a.in[1].apply(s, x), a.kvHeads), heads(a.in[2].apply(s, x), a.kvHeads)
	}
	nq, nkv := a.heads*a.width, a.kvHeads*a.width
	all := s.Split(a.in[0].apply(s, x), 2, nq, nkv, nkv)
	return heads(all[0], a.heads), heads(all[1], a.kvHeads), heads(all[2], a.kvHeads)
}
