package lm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// Adaptation chooses how a model learns from a text while it is scored on it. The
// model predicts each token from the tokens before it alone.
type Adaptation struct {
	Cache   *NeuralCache // nil: no cache
	Dynamic *Dynamic     // nil: no dynamic evaluation
	Train   data.Batcher // the training text, for Dynamic
}

// EvaluateAdaptively scores a text with a model that adapts to it; the model must
// carry its state. The batches must have one sequence each, in the order of the
// text. Afterwards the weights are as before.
func EvaluateAdaptively(ctx context.Context, m Model, batches data.Batcher, a Adaptation, device gotch.Device) (r Result, err error) {
	if !m.CarriesState() {
		return Result{}, fmt.Errorf("the cache and dynamic evaluation need a model that carries its state, and a %s does not", m.Config().Kind)
	}
	var e adaptiveEvaluation
	e.model, e.device = m, device
	if a.Cache != nil {
		e.cache = &cacheState{NeuralCache: *a.Cache}
		defer e.cache.close()
	}
	if a.Dynamic != nil {
		if e.dynamic, err = newDynamicState(ctx, m, a.Train, *a.Dynamic, device); err != nil {
			return Result{}, err
		}
		defer func() { err = errors.Join(err, e.dynamic.close()) }()
	}
	defer func() { e.state.Close() }()
	for {
		b, err := batches.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = e.segment(b)
		}
		if err != nil {
			return Result{}, fmt.Errorf("evaluate: %w", lower(err, "eval.batch (--batch of eval)"))
		}
	}
	return Result{Nats: e.total.Value(), Tokens: e.total.Tokens}, nil
}

type adaptiveEvaluation struct {
	model   Model
	device  gotch.Device
	state   *RecurrentState
	cache   *cacheState
	dynamic *dynamicState
	total   Mean
}

// segment scores a batch, then learns from it.
func (e *adaptiveEvaluation) segment(b data.Batch) (err error) {
	if b.B != 1 {
		return fmt.Errorf("a batch has %d sequences: a model adapts to one", b.B)
	}
	if e.state, err = stateFor(e.model, e.state, b); err != nil {
		return err
	}
	return torch.Do(func(s *torch.Scope) error {
		score := func() {
			in := toDevice(s, b, e.model.TimeMajor(), e.device)
			out := e.model.Forward(s, in.Input, e.state, Evaluate)
			loss := e.model.Output().Loss(s, out.States, in.targets, torch.CrossEntropyOptions{PerToken: true, Targets: in.host})
			if !s.OK() {
				return
			}
			nats := torch.ToSlice[float64](s, loss.PerToken)
			if e.cache != nil {
				s.NoGrad(func() { e.cache.mix(s, s.Detach(out.States), b.Targets, nats) })
			}
			for i, target := range b.Targets {
				if target != data.Ignore && i < len(nats) {
					e.total.Add(nats[i], 1)
				}
			}
			if e.dynamic != nil {
				s.Backward(loss.Mean)
				e.dynamic.step(s)
			}
		}
		if e.dynamic != nil {
			score()
		} else {
			s.NoGrad(score)
		}
		return s.Err()
	})
}

// stateFor returns the state that a batch starts from.
func stateFor(m Model, state *RecurrentState, b data.Batch) (*RecurrentState, error) {
	if state == nil {
		return m.NewState(int64(b.B))
	}
	if b.ResetState {
		return state, state.Reset()
	}
	return state, nil
}

// Dynamic trains the weights on the text while it is scored. After each segment they
// take a step down its gradient g, scaled by the root mean square rms of the
// training gradients, and a step back to the trained weights w0 (Krause et al. 2018,
// "RMS with an RMS global prior"):
//
//	w += min(1, decay rms / mean(rms)) (w0 - w) - lr g / (rms + eps)
type Dynamic struct {
	LR      float64
	Decay   float64
	Batches int // batches of training text over which the squared gradients are averaged
}

// dynamicEps is the paper's eps.
const dynamicEps = 1e-3

// dynamicState is a model under dynamic evaluation.
type dynamicState struct {
	Dynamic
	model    Model
	original []*ts.Tensor // w0
	scale    []*ts.Tensor // lr / (rms + eps)
	pull     []*ts.Tensor // min(1, decay rms / mean)
}

// newDynamicState measures the gradients on training text.
func newDynamicState(ctx context.Context, m Model, train data.Batcher, d Dynamic, device gotch.Device) (*dynamicState, error) {
	st := &dynamicState{Dynamic: d, model: m}
	squares, err := meanSquares(ctx, m, train, d.Batches, device)
	if err != nil {
		return nil, fmt.Errorf("dynamic evaluation: measure the gradients of training: %w", err)
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

// meanSquares returns the mean squared gradients of the loss over training batches,
// a slice for each parameter.
func meanSquares(ctx context.Context, m Model, train data.Batcher, batches int, device gotch.Device) ([][]float32, error) {
	sums := make([][]float32, len(m.Params()))
	var state *RecurrentState
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
			out := m.Forward(s, in.Input, state, Evaluate)
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

// close restores the weights.
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

// NeuralCache mixes the model's distribution with a distribution over the last
// tokens of the text, in which a token is likely if it followed features like the
// present ones (Grave et al. 2017):
//
//	p(w) = (1 - share) p_model(w) + share p_cache(w)
//	p_cache(w) ~ sum over the last Size places i that w followed of exp(theta h . h_i)
type NeuralCache struct {
	Size  int     // number of remembered tokens
	Theta float64 // scale of the products h . h_i: the larger, the fewer places count
	Share float64 // weight of the cache, in [0, 1]
}

// cacheState is the cache's memory after part of a text.
type cacheState struct {
	NeuralCache
	hidden *ts.Tensor // [places, D], the oldest first; nil at the start
	next   []int64    // the token after each place
}

func (c *cacheState) close() {
	if c.hidden != nil {
		_ = c.hidden.Drop()
	}
}

// mix adds a segment to the cache: features [T, D] and the targets after them. It
// replaces the model's losses by the mixture's losses.
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
		// The token after a place is known only for places before this one.
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

// cacheProbability is the share of target in the softmax of scores.
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

// keep drops all places but the last Size.
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
