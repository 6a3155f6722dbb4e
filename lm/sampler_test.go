package lm

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func logs(p ...float64) []float32 {
	l := make([]float32, len(p))
	for i := range p {
		l[i] = float32(math.Log(p[i])) + 3 // a constant shift of logits has no effect
	}
	return l
}

// The share of each token among many draws equals its probability under the
// settings.
func TestSamplerFrequencies(t *testing.T) {
	logits := logs(0.1, 0.4, 0.2, 0.3)
	for _, c := range []struct {
		name string
		s    Sampler
		want []float64
	}{
		{"all", Sampler{Temperature: 1}, []float64{0.1, 0.4, 0.2, 0.3}},
		{"likeliest", Sampler{Temperature: 0}, []float64{0, 1, 0, 0}},
		{"temperature 1/2 squares", Sampler{Temperature: 0.5}, []float64{1. / 30, 16. / 30, 4. / 30, 9. / 30}},
		{"top 2", Sampler{Temperature: 1, TopK: 2}, []float64{0, 4. / 7, 0, 3. / 7}},
		{"top k beyond the vocabulary", Sampler{Temperature: 1, TopK: 9}, []float64{0.1, 0.4, 0.2, 0.3}},
		{"nucleus", Sampler{Temperature: 1, TopP: 0.75}, []float64{0, 4. / 9, 2. / 9, 3. / 9}},
		{"at least 0.45 of the likeliest", Sampler{Temperature: 1, MinP: 0.45}, []float64{0, 4. / 9, 2. / 9, 3. / 9}},
		{"at least 0.6 of the likeliest", Sampler{Temperature: 1, MinP: 0.6}, []float64{0, 4. / 7, 0, 3. / 7}},
		{"nucleus of one", Sampler{Temperature: 1, TopP: 0.01}, []float64{0, 1, 0, 0}},
		{"nucleus of the top 2", Sampler{Temperature: 1, TopK: 2, TopP: 0.5}, []float64{0, 1, 0, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			const draws = 40_000
			random, got := rand.New(rand.NewPCG(1, 2)), make([]float64, len(logits))
			for range draws {
				got[c.s.Draw(logits, random)] += 1. / draws
			}
			for i, want := range c.want {
				if sd := math.Sqrt(want * (1 - want) / draws); math.Abs(got[i]-want) > 4*sd+1e-9 {
					t.Errorf("token %d came up in %.4f of the draws, want %.4f +- %.4f", i, got[i], want, sd)
				}
			}
		})
	}
}

func TestPenalties(t *testing.T) {
	prompt, drawn := []int64{0}, map[int64]int{1: 2, 2: 1}
	logits := []float32{1, -2, 3, -4} // raw ones: transformers divides positive ones, multiplies others
	for _, c := range []struct {
		name string
		s    Sampler
		want []float32
	}{
		{"none", Sampler{}, []float32{1, -2, 3, -4}},
		{"repetition", Sampler{Repetition: 2}, []float32{0.5, -4, 1.5, -4}},
		{"frequency", Sampler{Frequency: 0.5}, []float32{1, -3, 2.5, -4}},
		{"presence", Sampler{Presence: 0.5}, []float32{1, -2.5, 2.5, -4}},
	} {
		got := slices.Clone(logits)
		c.s.Penalize(got, prompt, drawn)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// Ties go to the lower id, so that a seed gives one text.
func TestSamplerTies(t *testing.T) {
	logits := make([]float32, 50)
	for id := range 50 {
		s := Sampler{Temperature: 1, TopK: 1 + id}
		for seed := range uint64(20) {
			if got := s.Draw(logits, rand.New(rand.NewPCG(seed, 0))); got > id {
				t.Fatalf("top %d of equal logits gave id %d", 1+id, got)
			}
		}
	}
}

func TestSamplerOddLogits(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	random := rand.New(rand.NewPCG(1, 2))
	for _, s := range []Sampler{{Temperature: 1}, {}, {Temperature: 1, TopK: 1}, {Temperature: 1, TopP: 0.5}, {Temperature: 1e-300}} {
		if got := s.Draw([]float32{nan, -inf, 2, -3}, random); got != 2 && (s.TopK > 0 || s.TopP > 0 || s.Temperature != 1) {
			t.Errorf("%+v drew %d", s, got)
		}
		if got := s.Draw([]float32{nan, nan}, random); got < 0 || got > 1 {
			t.Errorf("%+v drew %d of two NaN", s, got)
		}
	}
}

func TestTop(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		c := make([]candidate, 1+random.IntN(40))
		for i := range c {
			c[i] = candidate{i, float64(random.IntN(10))}
		}
		k := 1 + random.IntN(len(c))
		want := slices.SortedFunc(slices.Values(c), likelier)[:k]
		if got := top(c, k); !slices.Equal(got, want) {
			t.Fatalf("top %d is %v, want %v", k, got, want)
		}
	}
}
