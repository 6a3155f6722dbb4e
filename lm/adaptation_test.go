package lm_test

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
)

func pass(t *testing.T, tokens *data.Tokens, segment int) data.Batcher {
	t.Helper()
	b, err := data.NewContiguous(tokens, 1, segment, data.Evaluation())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func adaptively(t *testing.T, m lm.Model, batches data.Batcher, a lm.Adaptation) float64 {
	t.Helper()
	r, err := lm.EvaluateAdaptively(context.Background(), m, batches, a, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	return r.Nats
}

func weightsOf(t *testing.T, m lm.Model) (all []float32) {
	t.Helper()
	err := torch.Do(func(s *torch.Scope) error {
		for _, p := range m.Params() {
			all = append(all, torch.ToSlice[float32](s, p.Tensor)...)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The cache's mixture equals the formula, computed place by place, whatever the
// division of the text into segments.
func TestNeuralCache(t *testing.T) {
	m := newSmall(t)
	text := counting(60, 11)
	c := lm.NeuralCache{Size: 9, Theta: 0.8, Share: 0.3}
	ids, hidden, nats := make([]int64, text.Len()), [][]float64{}, []float64{}
	if err := text.Read(ids, 0); err != nil {
		t.Fatal(err)
	}
	err := torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() {
			state, err := m.NewState(1)
			if err != nil {
				s.Fail(err)
				return
			}
			defer state.Close()
			n := int64(len(ids) - 1)
			h := m.Forward(s, lm.Input{IDs: torch.FromSlice(s, ids[:n], n, 1)}, state, lm.Evaluate).States
			loss := m.Output().Loss(s, h, torch.FromSlice(s, ids[1:], n), torch.CrossEntropyOptions{PerToken: true})
			flat := torch.ToSlice[float64](s, h)
			hidden = slices.Collect(slices.Chunk(flat, len(flat)/int(n)))
			nats = torch.ToSlice[float64](s, loss.PerToken)
		})
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	want := 0.0
	for i, h := range hidden {
		total, hit := 0.0, 0.0
		for j := max(0, i-c.Size); j < i; j++ {
			dot := 0.0
			for k := range h {
				dot += h[k] * hidden[j][k]
			}
			e := math.Exp(c.Theta * dot)
			total += e
			if ids[j+1] == ids[i+1] {
				hit += e
			}
		}
		p := math.Exp(-nats[i])
		if total > 0 {
			p = (1-c.Share)*p + c.Share*hit/total
		}
		want -= math.Log(p) / float64(len(hidden))
	}
	for _, segment := range []int{1, 7, 100} {
		if got := adaptively(t, m, pass(t, text, segment), lm.Adaptation{Cache: &c}); math.Abs(got-want) > 1e-5 {
			t.Errorf("segments of %d: %v nats, want %v", segment, got, want)
		}
	}
}

// Dynamic evaluation learns a text that repeats itself and restores the model.
// Without steps it equals plain evaluation.
func TestDynamicEvaluation(t *testing.T) {
	m := newSmall(t)
	before := weightsOf(t, m)
	text, short := counting(1200, 11), counting(100, 11)
	train := func() data.Batcher {
		b, err := data.NewContiguous(counting(300, 11), 4, 6)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	plain, err := lm.EvaluateText(context.Background(), m, pass(t, short, 5), gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	still := adaptively(t, m, pass(t, short, 5), lm.Adaptation{Dynamic: &lm.Dynamic{Batches: 3}, Train: train()})
	if math.Abs(still-plain.Nats) > 1e-6 {
		t.Errorf("without steps %v nats, plainly %v", still, plain.Nats)
	}
	dynamic := adaptively(t, m, pass(t, text, 5), lm.Adaptation{Dynamic: &lm.Dynamic{LR: 0.01, Decay: 0.001, Batches: 3}, Train: train()})
	if dynamic > plain.Nats-0.15 {
		t.Errorf("dynamically %v nats, plainly %v", dynamic, plain.Nats)
	}
	held := adaptively(t, m, pass(t, text, 5), lm.Adaptation{Dynamic: &lm.Dynamic{LR: 0.01, Decay: 10, Batches: 3}, Train: train()})
	if held < dynamic {
		t.Errorf("drawn back at once %v nats, hardly %v", held, dynamic)
	}
	both := adaptively(t, m, pass(t, short, 5), lm.Adaptation{
		Cache: &lm.NeuralCache{Size: 50, Theta: 1, Share: 0.1}, Dynamic: &lm.Dynamic{LR: 0.01, Decay: 0.001, Batches: 3}, Train: train(),
	})
	if math.IsNaN(both) || both == dynamic {
		t.Errorf("with a cache beside it %v nats", both)
	}
	if !slices.Equal(before, weightsOf(t, m)) {
		t.Error("the weights are not what they were")
	}
}

func TestAdaptationRefuses(t *testing.T) {
	m := newSmall(t)
	two, err := data.NewContiguous(counting(60, 11), 2, 5, data.Evaluation())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lm.EvaluateAdaptively(context.Background(), m, two, lm.Adaptation{Cache: &lm.NeuralCache{Size: 3}}, gotch.CPU); err == nil {
		t.Error("two sequences side by side: no error")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := lm.EvaluateAdaptively(ctx, m, pass(t, counting(60, 11), 5), lm.Adaptation{}, gotch.CPU); err == nil {
		t.Error("cancelled: no error")
	}
}
