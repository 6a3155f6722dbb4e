package data

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// definition is modified Kneser-Ney smoothing by its formulas (Chen & Goodman 1999, section
// 3), from lists of n-grams.
type definition struct {
	train        []uint32
	order, vocab int
}

// grams returns the different n-grams and their counts.
func (m definition) grams(n int) map[string]int {
	counts, before := map[string]int{}, map[string]map[string]bool{}
	for i := n; i <= len(m.train); i++ {
		key, left := fmt.Sprint(m.train[i-n:i]), "start"
		if i > n {
			left = fmt.Sprint(m.train[i-n-1])
		}
		if before[key] == nil {
			before[key] = map[string]bool{}
		}
		counts[key]++
		before[key][left] = true
	}
	if n < m.order {
		for key := range counts {
			counts[key] = len(before[key])
		}
	}
	return counts
}

func (m definition) probability(context []uint32, id uint32) float64 {
	n, lower := len(context)+1, 1/float64(m.vocab)
	if n > 1 {
		lower = m.probability(context[1:], id)
	}
	counts := m.grams(n)
	var having [5]float64
	for _, c := range counts {
		if c < 5 {
			having[c]++
		}
	}
	discount := func(c int) float64 {
		k := min(c, 3)
		if k == 0 {
			return 0
		}
		if having[1] == 0 || having[2] == 0 || having[k] == 0 {
			return float64(k) / 2
		}
		y := having[1] / (having[1] + 2*having[2])
		return min(float64(k), max(0, float64(k)-float64(k+1)*y*having[k+1]/having[k]))
	}
	total, taken := 0.0, 0.0
	for w := range uint32(m.vocab) {
		c := counts[fmt.Sprint(append(slices.Clone(context), w))]
		total += float64(c)
		taken += discount(c)
	}
	if total == 0 {
		return lower
	}
	c := counts[fmt.Sprint(append(slices.Clone(context), id))]
	return (max(0, float64(c)-discount(c)) + taken*lower) / total
}

// The n-gram model has the probabilities of its definition, and they add up to 1.
func TestKneserNeyAgreesWithItsFormula(t *testing.T) {
	const vocab = 6
	random := rand.New(rand.NewPCG(1, 2))
	draw := func(n int) []uint32 {
		ids := make([]uint32, n)
		for i := range ids {
			ids[i] = uint32(vocab * random.Float64() * random.Float64())
			if i > 1 && random.IntN(3) > 0 {
				ids[i] = (ids[i-1] + 2*ids[i-2]) % vocab
			}
		}
		return ids
	}
	for _, size := range []int{1, 2, 30, 300} {
		train := draw(size)
		for order := 1; order <= MaxOrder; order++ {
			var text []uint32 // every token after each of a few contexts
			contexts := make([][]uint32, 6)
			for i := range contexts {
				contexts[i] = draw(order - 1)
				for w := range uint32(vocab) {
					text = append(append(text, contexts[i]...), w)
				}
			}
			m, want := newKneserNey(train, order, vocab, text), definition{train, order, vocab}
			for _, context := range contexts {
				sum := 0.0
				for w := range uint32(vocab) {
					p := m.probability(context, w)
					if want := want.probability(context, w); math.Abs(p-want) > 1e-12 {
						t.Fatalf("order %d, %d tokens: p(%d | %d) is %g, by the formula %g", order, size, w, context, p, want)
					}
					sum += p
				}
				if math.Abs(sum-1) > 1e-12 {
					t.Errorf("order %d, %d tokens: probabilities after %d add up to %g", order, size, context, sum)
				}
			}
		}
	}
}
