package lm

import (
	"math"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// NeuralCache mixes into a recurrent model's distribution that of the words which
// lately followed hidden states like the one at hand (Grave et al. 2017):
//
//	p(w) = (1 - share) p_model(w) + share p_cache(w)
//	p_cache(w) ~ sum over the last Size places i that w followed of exp(theta h . h_i)
type NeuralCache struct {
	Size  int     // places that it remembers
	Theta float64 // how sharply it tells hidden states apart
	Share float64 // weight of the cache, in [0, 1]
}

// cacheState is a cache on its way through a text.
type cacheState struct {
	NeuralCache
	hidden *ts.Tensor // [places, D], the oldest first; nil at the start
	next   []int64    // what followed each
}

func (c *cacheState) close() {
	if c.hidden != nil {
		_ = c.hidden.Drop()
	}
}

// mix takes in a segment: hidden states [T, D], the targets that followed and the
// model's losses, which it replaces by those of the mixture.
func (c *cacheState) mix(s *torch.Scope, hidden *ts.Tensor, targets []int64, nats []float64) {
	before := len(c.next)
	all := hidden
	if before > 0 {
		all = s.Cat(0, c.hidden, hidden)
	}
	c.next = append(c.next, targets...)
	scores := torch.ToSlice[float32](s, s.Scale(s.MatMul(hidden, s.Transpose(all, 0, 1)), c.Theta))
	if !s.OK() {
		return
	}
	places := len(c.next)
	for t, target := range targets {
		// A place counts once what followed it is known: those before this one.
		to := before + t
		from := max(0, to-c.Size)
		if to == from {
			continue
		}
		p := cacheProbability(scores[t*places:][from:to], c.next[from:to], target)
		mixed := (1-c.Share)*math.Exp(-nats[t]) + c.Share*p
		nats[t] = -math.Log(mixed)
	}
	c.keep(s, all)
}

// cacheProbability is that of target among what followed, by the softmax of scores.
func cacheProbability(scores []float32, next []int64, target int64) float64 {
	largest := math.Inf(-1)
	for _, x := range scores {
		largest = max(largest, float64(x))
	}
	total, hit := 0.0, 0.0
	for i, x := range scores {
		e := math.Exp(float64(x) - largest)
		total += e
		if next[i] == target {
			hit += e
		}
	}
	return hit / total
}

// keep remembers the last of all places.
func (c *cacheState) keep(s *torch.Scope, all *ts.Tensor) {
	n := min(len(c.next), c.Size)
	kept := s.Clone(s.Narrow(all, 0, int64(len(c.next)-n), int64(n)))
	if kept == nil {
		return
	}
	if c.hidden != nil {
		s.Own(c.hidden)
	}
	c.hidden, c.next = s.Keep(kept), append([]int64(nil), c.next[len(c.next)-n:]...)
}
