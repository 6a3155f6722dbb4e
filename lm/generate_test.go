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

// generate returns the samples of one seed.
func generate(t *testing.T, m lm.Model, g lm.Generation, texts int) [][]int64 {
	t.Helper()
	d, err := m.NewDecoder(texts)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	out := make([][]int64, texts)
	err = lm.Generate(context.Background(), d, g, 0, texts, func(i int, id int64) error {
		out[i] = append(out[i], id)
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

var plain = lm.Generation{Prompt: []int64{1, 2, 3}, Tokens: 40, Sampler: lm.Sampler{Temperature: 1}, Seed: 5}

func TestGenerateIsAFunctionOfTheSeed(t *testing.T) {
	m := newSmall(t)
	three := generate(t, m, plain, 3)
	if again := generate(t, m, plain, 3); !slices.EqualFunc(three, again, slices.Equal) {
		t.Errorf("the same seed gave %v, then %v", three, again)
	}
	if one := generate(t, m, plain, 1); !slices.Equal(one[0], three[0]) {
		t.Errorf("the first sample alone is %v, beside others %v", one[0], three[0])
	}
	if slices.Equal(three[0], three[1]) {
		t.Error("two samples are the same")
	}
	other := plain
	other.Seed++
	if slices.Equal(generate(t, m, other, 1)[0], three[0]) {
		t.Error("another seed gave the same text")
	}
}

// Decoding from the carried state gives the same logits as reading the whole text
// again.
func TestDecoderCarriesItsState(t *testing.T) {
	m := newSmall(t)
	ids := generate(t, m, lm.Generation{Prompt: []int64{1}, Tokens: 600, Sampler: lm.Sampler{Temperature: 1}}, 1)[0]
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

func TestGenerateStops(t *testing.T) {
	m := newSmall(t)
	whole := generate(t, m, plain, 1)[0]
	g := plain
	g.Stop = whole[4:5]
	if got := generate(t, m, g, 1)[0]; !slices.Equal(got, whole[:slices.Index(whole, g.Stop[0])]) {
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
	err = lm.Generate(context.Background(), d, plain, 0, 1, func(int, int64) error {
		told++
		return broken
	})
	if !errors.Is(err, broken) || told != 1 {
		t.Errorf("%v after %d tokens", err, told)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := lm.Generate(ctx, d, plain, 0, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	empty := plain
	empty.Prompt = nil
	if err := lm.Generate(context.Background(), d, empty, 0, 1, nil); err == nil {
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
	err = lm.Generate(context.Background(), d, plain, 0, 1, func(int, int64) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "NaN") {
		t.Errorf("error %v, want one that says NaN", err)
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
	err = lm.Generate(context.Background(), d, plain, 0, 2, func(i int, _ int64) error {
		if counts[i]++; i == 0 && counts[0] == 3 {
			return lm.ErrTextEnds
		}
		return nil
	})
	if err != nil || counts != [2]int{3, plain.Tokens} {
		t.Errorf("%v, %v tokens", err, counts)
	}
}
