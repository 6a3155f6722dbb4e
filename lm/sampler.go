package lm

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// A Sampler draws tokens from logits. A zero field leaves the distribution
// unchanged, except that Temperature 0 takes the likeliest token.
type Sampler struct {
	Temperature float64
	TopK        int     // sample among this many likeliest tokens; 0: all
	TopP        float64 // then among the likeliest that have this probability together (Holtzman et al. 2020); 0 or 1 is all
	MinP        float64 // then among those at least this times as likely as the likeliest (Nguyen et al. 2024); 0 is all

	Repetition float64 // positive logits of tokens in the prompt or the text are divided by this, others multiplied (Keskar et al. 2019); 0 or 1 is no change
	Frequency  float64 // taken off a token's logit for each time that the text has it
	Presence   float64 // taken off once for a token that the text has

	candidates []candidate
}

type candidate struct {
	id     int
	weight float64 // its logit, then its probability up to a factor
}

// likelier orders candidates. Among equally likely ones the lower id comes first.
func likelier(a, b candidate) int {
	return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.id, b.id))
}

// Penalize lowers the logits of tokens that a text has already: prompt are its first
// tokens, drawn counts those after them.
func (s *Sampler) Penalize(logits []float32, prompt []int64, drawn map[int64]int) {
	if s.Repetition != 0 && s.Repetition != 1 {
		seen := map[int64]bool{}
		for _, id := range prompt {
			seen[id] = true
		}
		for id := range drawn {
			seen[id] = true
		}
		for id := range seen {
			if logits[id] > 0 {
				logits[id] /= float32(s.Repetition)
			} else {
				logits[id] *= float32(s.Repetition)
			}
		}
	}
	if s.Frequency != 0 || s.Presence != 0 {
		for id, n := range drawn {
			logits[id] -= float32(s.Frequency*float64(n) + s.Presence)
		}
	}
}

// Draw returns a token. It uses one number from random, whatever the settings.
func (s *Sampler) Draw(logits []float32, random *rand.Rand) int {
	u := random.Float64()
	if s.Temperature == 0 {
		return likeliest(logits)
	}
	c := s.candidates[:0]
	for id, l := range logits {
		if l == l { // skip NaN
			c = append(c, candidate{id, float64(l) / s.Temperature})
		}
	}
	s.candidates = c
	if s.TopK > 0 && s.TopK < len(c) {
		c = top(c, s.TopK)
	}
	total := softmax(c)
	if s.TopP > 0 && s.TopP < 1 {
		c, total = nucleus(c, total, s.TopP)
	}
	if s.MinP > 0 {
		c, total = atLeast(c, s.MinP)
	}
	at := u * total
	for _, candidate := range c {
		if at -= candidate.weight; at < 0 {
			return candidate.id
		}
	}
	// Rounding, or logits that are all NaN.
	return likeliest(logits)
}

// logProb returns the log-probability of a token under the softmax of logits.
func logProb(logits []float32, id int64) float64 {
	largest := slices.Max(logits)
	total := 0.0
	for _, l := range logits {
		total += math.Exp(float64(l - largest))
	}
	return float64(logits[id]-largest) - math.Log(total)
}

func likeliest(logits []float32) int {
	best := 0
	for id, l := range logits {
		if l > logits[best] || logits[best] != logits[best] {
			best = id
		}
	}
	return best
}

// softmax turns logits into unnormalized probabilities, none of which overflows, and
// returns their total.
func softmax(c []candidate) (total float64) {
	largest := math.Inf(-1)
	for _, x := range c {
		largest = max(largest, x.weight)
	}
	for i := range c {
		c[i].weight = math.Exp(c[i].weight - largest)
		total += c[i].weight
	}
	return total
}

// nucleus keeps the fewest of the likeliest candidates that reach share of the
// total. Candidates below (1 - share) / n of the total have together less than 1 -
// share, so that only the others need sorting.
func nucleus(c []candidate, total, share float64) ([]candidate, float64) {
	floor := (1 - share) * total / float64(len(c))
	c = slices.DeleteFunc(c, func(x candidate) bool { return x.weight < floor })
	slices.SortFunc(c, likelier)
	sum := 0.0
	for i, x := range c {
		if sum += x.weight; sum >= share*total {
			return c[:i+1], sum
		}
	}
	return c, sum
}

// atLeast keeps the candidates with at least share of the likeliest one's probability.
func atLeast(c []candidate, share float64) ([]candidate, float64) {
	largest, total := 0.0, 0.0
	for _, x := range c {
		largest = max(largest, x.weight)
	}
	c = slices.DeleteFunc(c, func(x candidate) bool { return x.weight < share*largest })
	for _, x := range c {
		total += x.weight
	}
	return c, total
}

// top returns the k likeliest candidates, in their order. It keeps them in a heap
// with the least likely at its root, so that most candidates cost one comparison.
func top(c []candidate, k int) []candidate {
	heap := slices.Clone(c[:k])
	down := func(i int) {
		for {
			least := i
			for _, child := range []int{2*i + 1, 2*i + 2} {
				if child < k && likelier(heap[child], heap[least]) > 0 {
					least = child
				}
			}
			if least == i {
				return
			}
			heap[i], heap[least] = heap[least], heap[i]
			i = least
		}
	}
	for i := k/2 - 1; i >= 0; i-- {
		down(i)
	}
	for _, x := range c[k:] {
		if likelier(x, heap[0]) < 0 {
			heap[0] = x
			down(0)
		}
	}
	slices.SortFunc(heap, likelier)
	return heap
}
