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
	// (One is GPT-2's: kvHeads is heads, and there is no rotary.)
	in     []linear
	out    linear
	rotary *rotary // nil where positions are learned
}

// apply returns the residual stream x [B, T, D] with the branch on it. With a cache x
// continues what the cache has seen. dropout is of attention weights and the branch.
func (a *attention) apply(s *torch.Scope, x *ts.Tensor, n norm, cache *layerCache, dropout float64) *ts.Tensor {
	if len(a.in) == 1 && cache == nil {
		return s.SelfAttention(x, n.branch(dropout), a.in[0].affine(s), a.out.affine(s), a.heads, dropout)
	}
	q, k, v := a.project(s, n.apply(s, x))
	from := cache.length()
	if a.rotary != nil {
		q, k = a.rotary.apply(s, q, from), a.rotary.apply(s, k, from)
	}
	q, k, v = s.Transpose(q, 1, 2), s.Transpose(k, 1, 2), s.Transpose(v, 1, 2)
	k, v = cache.extend(s, k, v)
	y := s.Transpose(s.Attention(q, k, v, from, dropout), 1, 2)
	return s.Add(x, s.Dropout(a.out.apply(s, s.Flatten(y, 2)), dropout))
}

// project returns queries [B, T, heads, width], keys and values [B, T, kvHeads, width].
func (a *attention) project(s *torch.Scope, x *ts.Tensor) (q, k, v *ts.Tensor) {
	if len(a.in) == 1 {
		all := s.Split(s.Unflatten(a.in[0].apply(s, x), 2, 3*a.heads, a.width), 2, a.heads, a.heads, a.heads)
		return all[0], all[1], all[2]
	}
	return s.Unflatten(a.in[0].apply(s, x), 2, a.heads, a.width),
		s.Unflatten(a.in[1].apply(s, x), 2, a.kvHeads, a.width),
		s.Unflatten(a.in[2].apply(s, x), 2, a.kvHeads, a.width)
}
