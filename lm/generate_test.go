package lm_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

// generate returns the new tokens of each text.
func generate(t *testing.T, m lm.Model, g lm.Generation, texts ...lm.Text) [][]int64 {
	t.Helper()
	d, err := m.NewDecoder(len(texts))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out := make([][]int64, len(texts))
	err = lm.Generate(context.Background(), d, g, texts, func(i int, token lm.Drawn) error {
		out[i] = append(out[i], token.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func newSmall(t *testing.T) lm.Model {
	t.Helper()
	m, err := lm.New(small, 3, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

var plain = lm.Generation{Tokens: 40, Sampler: lm.Sampler{Temperature: 1}, Seed: 5}

// samples are n samples of one prompt.
func samples(n int) []lm.Text {
	texts := make([]lm.Text, n)
	for i := range texts {
		texts[i] = lm.Text{Prompt: []int64{1, 2, 3}, Sample: i}
	}
	return texts
}

func TestGenerateIsAFunctionOfTheSeed(t *testing.T) {
	m := newSmall(t)
	three := generate(t, m, plain, samples(3)...)
	if again := generate(t, m, plain, samples(3)...); !slices.EqualFunc(three, again, slices.Equal) {
		t.Errorf("the same seed gave %v, then %v", three, again)
	}
	if one := generate(t, m, plain, samples(1)...); !slices.Equal(one[0], three[0]) {
		t.Errorf("the first sample alone is %v, beside others %v", one[0], three[0])
	}
	if slices.Equal(three[0], three[1]) {
		t.Error("two samples are the same")
	}
	other := plain
	other.Seed++
	if slices.Equal(generate(t, m, other, samples(1)...)[0], three[0]) {
		t.Error("another seed gave the same text")
	}
}

// Decoding from the carried state gives the same logits as reading the whole text
// again.
func TestDecoderCarriesItsState(t *testing.T) {
	m := newSmall(t)
	ids := generate(t, m, lm.Generation{Tokens: 600, Sampler: lm.Sampler{Temperature: 1}}, lm.Text{Prompt: []int64{1}})[0]
	carried, err := m.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer carried.Close()
	next := func(d lm.Decoder, ids ...int64) (logits []float32) {
		err := torch.Do(func(s *torch.Scope) error {
			logits = torch.ToSlice[float32](s, d.Next(s, [][]int64{ids}))
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		return logits
	}
	for i, id := range ids {
		got := next(carried, id)
		if i%97 != 0 && i != len(ids)-1 {
			continue
		}
		fresh, err := m.NewDecoder(1)
		if err != nil {
			t.Fatal(err)
		}
		want := next(fresh, ids[:i+1]...)
		fresh.Close()
		for j := range want {
			if d := got[j] - want[j]; d > 1e-5 || d < -1e-5 {
				t.Fatalf("after %d tokens, logit %d is %v, from the start %v", i+1, j, got[j], want[j])
			}
		}
	}
}

// Prompts of several lengths are continued together as each by itself, those longer
// than the context (10) too.
func TestGenerateTogether(t *testing.T) {
	var texts []lm.Text
	for i, length := range []int{3, 1, 12, 7, 10, 30, 3, 11} {
		prompt := make([]int64, length)
		for j := range prompt {
			prompt[j] = int64((j*j + 3*j*i + i) % 11)
		}
		texts = append(texts, lm.Text{Prompt: prompt, Sample: i % 3})
	}
	for name, config := range shapes {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, config)
			for _, temperature := range []float64{0, 1} {
				g := lm.Generation{Tokens: 25, Seed: 2, Sampler: lm.Sampler{Temperature: temperature, Repetition: 1.1, Presence: 0.1}}
				for i, got := range generate(t, m, g, texts...) {
					if want := generate(t, m, g, texts[i])[0]; !slices.Equal(got, want) {
						t.Errorf("temperature %g: text %d among others is continued by %v, alone by %v", temperature, i, got, want)
					}
				}
			}
		})
	}
}

func TestBatches(t *testing.T) {
	var texts []lm.Text
	for _, length := range []int{5, 1, 30, 4, 5, 9, 31} {
		texts = append(texts, lm.Text{Prompt: make([]int64, length)})
	}
	for _, c := range []struct {
		tokens, size int
		want         [][]int
	}{
		{4, 10, [][]int{{0, 1, 3, 4}, {2, 6}, {5}}},
		{100, 10, [][]int{{0, 1, 2, 3, 4, 5, 6}}},
		{100, 3, [][]int{{0, 1, 3}, {2, 4, 5}, {6}}},
		{100, 1, [][]int{{0}, {1}, {2}, {3}, {4}, {5}, {6}}},
	} {
		if got := lm.Batches(texts, c.tokens, c.size); !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%d tokens, at most %d texts: %v, want %v", c.tokens, c.size, got, c.want)
		}
	}
}

func TestGenerateStops(t *testing.T) {
	m := newSmall(t)
	whole := generate(t, m, plain, samples(1)...)[0]
	g := plain
	g.Stop = whole[4:5]
	if got := generate(t, m, g, samples(1)...)[0]; !slices.Equal(got, whole[:slices.Index(whole, g.Stop[0])]) {
		t.Errorf("stopping at %d gave %v of %v", g.Stop, got, whole)
	}
}

func TestGenerateEnds(t *testing.T) {
	m := newSmall(t)
	d, err := m.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	broken := errors.New("broken pipe")
	told := 0
	err = lm.Generate(context.Background(), d, plain, samples(1), func(int, lm.Drawn) error {
		told++
		return broken
	})
	if !errors.Is(err, broken) || told != 1 {
		t.Errorf("%v after %d tokens", err, told)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := lm.Generate(ctx, d, plain, samples(1), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := lm.Generate(context.Background(), d, plain, []lm.Text{{}}, nil); err == nil {
		t.Error("no prompt, no error")
	}
}

// A model with damaged weights writes no text.
func TestGenerateRefusesNaN(t *testing.T) {
	m := newSmall(t)
	err := torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() { s.Fill(m.Params()[0].Tensor, math.NaN()) })
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	err = lm.Generate(context.Background(), d, plain, samples(1), func(int, lm.Drawn) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("error %v, want one that says NaN", err)
	}
}

// The log-probabilities of drawn tokens are the model's, whatever changes the draw.
func TestGenerateGivesLogProbs(t *testing.T) {
	for name, config := range shapes {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, config)
			g := lm.Generation{
				Tokens: 6, LogProbs: true, Seed: 3,
				Sampler: lm.Sampler{Temperature: 2, TopK: 5, Repetition: 1.5, Presence: 1},
			}
			d, err := m.NewDecoder(1)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			text := []int64{1, 2}
			err = lm.Generate(t.Context(), d, g, []lm.Text{{Prompt: []int64{1, 2}}}, func(_ int, token lm.Drawn) error {
				want := 0.0
				fresh, err := m.NewDecoder(1)
				if err != nil {
					return err
				}
				defer fresh.Close()
				err = torch.Do(func(s *torch.Scope) error {
					want = torch.ToSlice[float64](s, s.LogSoftmax(fresh.Next(s, [][]int64{text})))[token.ID]
					return s.Err()
				})
				if text = append(text, token.ID); math.Abs(token.LogProb-want) > 1e-5 {
					t.Errorf("token %d of %v: log-probability %.6f, want %.6f", token.ID, text, token.LogProb, want)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A text that yield ends gets no more tokens; the others do.
func TestGenerateEndsOneText(t *testing.T) {
	m := newSmall(t)
	d, err := m.NewDecoder(2)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	counts := [2]int{}
	err = lm.Generate(context.Background(), d, plain, samples(2), func(i int, _ lm.Drawn) error {
		if counts[i]++; i == 0 && counts[0] == 3 {
			return lm.ErrTextEnds
		}
		return nil
	})
	if err != nil || counts != [2]int{3, plain.Tokens} {
		t.Errorf("%v, %v tokens", err, counts)
	}
}
