package lm

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// Adaptation is how a model may learn from a text while it is scored on it: each
// token from those before it alone.
type Adaptation struct {
	Cache   *NeuralCache // nil is none
	Dynamic *Dynamic     // nil is none
	Train   data.Batcher // for Dynamic: training text
}

// EvaluateAdaptively scores a text with a recurrent model that adapts to it. The
// batches are of one sequence, as they are read; the weights are afterwards what
// they were.
func EvaluateAdaptively(ctx context.Context, m Model, batches data.Batcher, a Adaptation, device gotch.Device) (r Result, err error) {
	if !m.TimeMajor() {
		return Result{}, fmt.Errorf("the cache and dynamic evaluation are for recurrent models, and this is a %s", m.Config().Kind)
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
			return Result{}, fmt.Errorf("evaluate: %w", err)
		}
	}
	return Result{Nats: e.total.Nats(), Tokens: e.total.Tokens}, nil
}

type adaptiveEvaluation struct {
	model   Model
	device  gotch.Device
	state   *State
	cache   *cacheState
	dynamic *dynamicState
	total   Mean
}

// segment scores a batch, and then learns from it.
func (e *adaptiveEvaluation) segment(b data.Batch) (err error) {
	if b.B != 1 {
		return fmt.Errorf("%d sequences side by side, and a model can adapt to one", b.B)
	}
	if e.state, err = stateFor(e.model, e.state, b); err != nil {
		return err
	}
	return torch.Do(func(s *torch.Scope) error {
		score := func() {
			in := toDevice(s, b, e.model.TimeMajor(), e.device)
			out := e.model.Forward(s, in.ids, e.state, Evaluate)
			loss := e.model.Output().Loss(s, out.States, in.targets, torch.CrossEntropyOptions{PerToken: true})
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

// stateFor is the state that a batch starts from.
func stateFor(m Model, state *State, b data.Batch) (*State, error) {
	if state == nil {
		return m.NewState(int64(b.B))
	}
	if b.Fresh {
		return state, state.Reset()
	}
	return state, nil
}
