package lm

import (
	"context"
	"fmt"
	"math"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// Dynamic evaluation lets the weights follow the text that is scored: after each
// segment they take a step down its gradient g, scaled by what gradients were like
// in training, and are drawn back to where training left them (Krause et al. 2018,
// "RMS with an RMS global prior"):
//
//	w += min(1, decay rms / mean(rms)) (w0 - w) - lr g / (rms + eps)
type Dynamic struct {
	LR      float64
	Decay   float64
	Batches int // of training text, for the gradients' root mean squares
}

// dynamicEps is the paper's.
const dynamicEps = 1e-3

// dynamicState is a model under dynamic evaluation.
type dynamicState struct {
	Dynamic
	model    Model
	original []*ts.Tensor // w0
	scale    []*ts.Tensor // lr / (rms + eps)
	pull     []*ts.Tensor // min(1, decay rms / mean)
}

// newDynamicState measures gradients on training text.
func newDynamicState(ctx context.Context, m Model, train data.Batcher, d Dynamic, device gotch.Device) (*dynamicState, error) {
	st := &dynamicState{Dynamic: d, model: m}
	squares, err := meanSquares(ctx, m, train, d.Batches, device)
	if err != nil {
		return nil, fmt.Errorf("dynamic evaluation: gradients of training: %w", err)
	}
	sum, count := 0.0, 0
	for _, rms := range squares {
		for i, v := range rms {
			rms[i] = float32(math.Sqrt(float64(v)))
			sum += float64(rms[i])
		}
		count += len(rms)
	}
	mean := sum / float64(count)
	err = torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() {
			for i, p := range m.Params() {
				pull := make([]float32, len(squares[i]))
				for j, rms := range squares[i] {
					pull[j] = float32(min(1, d.Decay*float64(rms)/mean))
					squares[i][j] = float32(d.LR / (float64(rms) + dynamicEps))
				}
				like := func(values []float32) *ts.Tensor {
					return s.To(torch.FromSlice(s, values, torch.Shape(p.Tensor)...), gotch.Float, device)
				}
				st.original = append(st.original, s.Clone(s.Detach(p.Tensor)))
				st.scale, st.pull = append(st.scale, like(squares[i])), append(st.pull, like(pull))
			}
		})
		if s.OK() {
			st.each(func(t *ts.Tensor) { s.Keep(t) })
		}
		return s.Err()
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// meanSquares are the mean squared gradients of the loss over training batches, a
// slice for each parameter.
func meanSquares(ctx context.Context, m Model, train data.Batcher, batches int, device gotch.Device) ([][]float32, error) {
	sums := make([][]float32, len(m.Params()))
	var state *State
	defer func() { state.Close() }()
	for range batches {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := train.Next()
		if err != nil {
			return nil, err
		}
		if state, err = stateFor(m, state, b); err != nil {
			return nil, err
		}
		err = torch.Do(func(s *torch.Scope) error {
			in := toDevice(s, b, m.TimeMajor(), device)
			out := m.Forward(s, in.ids, state, Evaluate)
			s.Backward(m.Output().Loss(s, out.States, in.targets, torch.CrossEntropyOptions{}).Mean)
			for i, p := range m.Params() {
				if !torch.HasGrad(p.Tensor) {
					continue
				}
				g := torch.ToSlice[float32](s, s.Grad(p.Tensor))
				if sums[i] == nil {
					sums[i] = make([]float32, len(g))
				}
				for j, v := range g {
					sums[i][j] += v * v / float32(batches)
				}
				s.ClearGrad(p.Tensor)
			}
			return s.Err()
		})
		if err != nil {
			return nil, err
		}
	}
	for i, p := range m.Params() {
		if sums[i] == nil {
			sums[i] = make([]float32, torch.Count(p.Tensor))
		}
	}
	return sums, nil
}

// step follows the gradients of the segment just scored.
func (st *dynamicState) step(s *torch.Scope) {
	s.NoGrad(func() {
		for i, p := range st.model.Params() {
			w := s.Detach(p.Tensor)
			back := s.Mul(s.Sub(st.original[i], w), st.pull[i])
			if torch.HasGrad(p.Tensor) {
				back = s.Sub(back, s.Mul(s.Grad(p.Tensor), st.scale[i]))
				s.ClearGrad(p.Tensor)
			}
			s.AddInPlace(w, back)
		}
	})
}

// close puts the weights back.
func (st *dynamicState) close() error {
	var weights []*ts.Tensor
	for _, p := range st.model.Params() {
		weights = append(weights, p.Tensor)
	}
	err := copyAll(weights, st.original)
	st.each(func(t *ts.Tensor) { _ = t.Drop() })
	return err
}

func (st *dynamicState) each(f func(t *ts.Tensor)) {
	for _, list := range [][]*ts.Tensor{st.original, st.scale, st.pull} {
		for _, t := range list {
			f(t)
		}
	}
}
