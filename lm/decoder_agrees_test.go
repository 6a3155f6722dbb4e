package lm_test

import (
	"math"
	"slices"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// shapes are models of every kind, small.
var shapes = map[string]lm.Config{
	"lstm": small,
	"gru": {
		Kind: lm.GRU, Vocab: 31, Layers: 2, Embed: 12, Hidden: 16, Softmax: lm.Adaptive, Cutoffs: []int64{8, 20},
		Dropout: lm.Dropout{Input: 0.1, Embed: 0.1, Hidden: 0.1, Output: 0.1, Weight: 0.1},
	},
	"gpt2": {
		Kind: lm.Transformer, Vocab: 11, Layers: 2, Embed: 12, Hidden: 48, Tied: true, Heads: 3, KVHeads: 3, Context: 10,
		Norm: lm.LayerNorm, Position: lm.Learned, MLP: lm.GELU, Dropout: lm.Dropout{Input: 0.1, Hidden: 0.1},
	},
	"llama": {
		Kind: lm.Transformer, Vocab: 11, Layers: 2, Embed: 16, Hidden: 24, Heads: 4, KVHeads: 2, Context: 10,
		Norm: lm.RMSNorm, Position: lm.Rotary, MLP: lm.SwiGLU, Dropout: lm.Dropout{Input: 0.1, Hidden: 0.1},
	},
	"mixed": {
		Kind: lm.Transformer, Vocab: 31, Softmax: lm.Adaptive, Layers: 1, Embed: 16, Hidden: 24, Heads: 4, KVHeads: 1, Context: 10,
		Norm: lm.LayerNorm, Position: lm.Rotary, MLP: lm.SwiGLU,
	},
	"window": {
		Kind: lm.Transformer, Vocab: 11, Layers: 3, Embed: 16, Hidden: 24, Heads: 4, KVHeads: 2, Context: 10,
		Norm: lm.RMSNorm, Position: lm.Rotary, MLP: "gated-relu", Dropout: lm.Dropout{Hidden: 0.1},
		Architecture: spec.Architecture{
			HeadWidth: 6, QKNorm: true, Window: 3, WindowLayers: []int64{1, 3}, Biases: spec.QKVBiases,
			Rotary: spec.Rotations{Skip: []int64{2}, Scaling: spec.YarnScaling, Factor: 4, Original: 5, Fast: 32, Slow: 1},
		},
	},
	"parallel": {
		Kind: lm.Transformer, Vocab: 11, Layers: 2, Embed: 16, Hidden: 24, Heads: 2, KVHeads: 2, Context: 10,
		Norm: lm.LayerNorm, Position: lm.Rotary, MLP: "gelu-exact",
		Architecture: spec.Architecture{Parallel: true, Rotary: spec.Rotations{Share: 0.25}},
	},
}

// newModel makes a model with large weights, unlike a fresh model's, so that every
// part affects the result.
func newModel(t *testing.T, c lm.Config) lm.Model {
	t.Helper()
	m, err := lm.New(c, 7, gotch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	err = torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(7, 1, 0); err != nil {
			return err
		}
		s.NoGrad(func() {
			for _, p := range m.Params() {
				noise := s.ZerosLike(p.Tensor)
				s.UniformInPlace(noise, -0.4, 0.4)
				s.AddInPlace(p.Tensor, noise)
			}
		})
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// forward returns the hidden states after the last tokens of texts [batch, n].
func forward(s *torch.Scope, t *testing.T, m lm.Model, texts [][]int64) (h *ts.Tensor) {
	s.NoGrad(func() {
		b, n := int64(len(texts)), int64(len(texts[0]))
		ids := torch.FromSlice(s, slices.Concat(texts...), b, n)
		if m.TimeMajor() {
			ids = s.Contiguous(s.Transpose(ids, 0, 1))
		}
		state, err := m.NewState(b)
		if err != nil {
			t.Fatal(err)
		}
		defer state.Close()
		h = m.Forward(s, lm.Input{IDs: ids}, state, lm.Evaluate).States
		if m.TimeMajor() {
			h = s.Narrow(h, 0, (n-1)*b, b)
		} else {
			h = s.Select(s.Reshape(h, b, n, -1), 1, n-1)
		}
	})
	return h
}

// predict returns the logits of the next token of each text.
func predict(s *torch.Scope, t *testing.T, m lm.Model, texts [][]int64) (p []float64) {
	s.NoGrad(func() { p = torch.ToSlice[float64](s, m.Output().Logits(s, forward(s, t, m, texts))) })
	return p
}

func TestDecoderAgreesWithReadingFromTheStart(t *testing.T) {
	texts := [][]int64{{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, {10, 3, 3, 0, 1, 7, 5, 5, 2, 4}}
	for name, config := range shapes {
		t.Run(name, func(t *testing.T) {
			m := newModel(t, config)
			for _, pieces := range [][]int{{10}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {4, 3, 1, 2}} {
				err := torch.Do(func(s *torch.Scope) error {
					d, err := m.NewDecoder(2)
					if err != nil {
						return err
					}
					defer d.Close()
					from := 0
					for _, n := range pieces {
						got := torch.ToSlice[float64](s, d.Next(s, [][]int64{texts[0][from : from+n], texts[1][from : from+n]}))
						from += n
						want := predict(s, t, m, [][]int64{texts[0][:from], texts[1][:from]})
						if i := firstApart(got, want, 1e-5); i >= 0 {
							t.Errorf("pieces %v: after %d tokens number %d is %g, want %g", pieces, from, i, got[i], want[i])
						}
					}
					return s.Err()
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestDecoderGoesOnWhenTheContextIsFull: the decoder then keeps the newest half.
func TestDecoderGoesOnWhenTheContextIsFull(t *testing.T) {
	m := newModel(t, shapes["gpt2"])
	err := torch.Do(func(s *torch.Scope) error {
		d, err := m.NewDecoder(1)
		if err != nil {
			return err
		}
		defer d.Close()
		var text []int64
		start := 0
		for i := range 23 {
			text = append(text, int64(i*i%11))
			got := torch.ToSlice[float64](s, d.Next(s, [][]int64{text[i:]}))
			if len(text)-start > 10 {
				start = len(text) - 5
			}
			want := predict(s, t, m, [][]int64{text[start:]})
			if i := firstApart(got, want, 1e-5); i >= 0 {
				t.Fatalf("after %d tokens number %d is %g, want %g", len(text), i, got[i], want[i])
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// firstApart returns the first index at which a and b differ, or -1.
func firstApart(a, b []float64, tolerance float64) int {
	if len(a) != len(b) {
		return 0
	}
	for i := range a {
		if !(math.Abs(a[i]-b[i]) <= tolerance*(1+math.Abs(b[i]))) {
			return i
		}
	}
	return -1
}
