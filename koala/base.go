package koala

import (
	"errors"
	"fmt"
	"math"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// ErrPhase is the error of calls out of turn: Predict, then Update.
var ErrPhase = errors.New("out of turn")

var errClosed = errors.New("the optimizer is closed")

// base is what all kinds have in common.
type base struct {
	kind       string
	params     []*param
	lr, factor float64
	clip       float64
	predicted  int64 // 1 between Predict and Update
	closed     bool
	operators  bool // use libtorch's operators alone: the reference that tests hold the kernels to
}

func (o *base) Kind() string { return o.kind }

func (o *base) SetLR(factor float64) { o.factor = factor }

func (o *base) LR() float64 { return o.lr * o.factor }

func (o *base) Params() []*ts.Tensor {
	tensors := make([]*ts.Tensor, len(o.params))
	for i, p := range o.params {
		tensors[i] = p.p
	}
	return tensors
}

// Predict is the baselines'.
func (o *base) Predict() error { return nil }

func (o *base) ZeroGrad() error {
	return torch.Do(func(s *torch.Scope) error {
		for _, p := range o.params {
			s.ClearGrad(p.p)
		}
		return nil
	})
}

func (o *base) Close() error {
	o.closed = true
	return o.free()
}

// free frees the state's tensors.
func (o *base) free() error {
	var errs []error
	for _, p := range o.params {
		for _, t := range []**ts.Tensor{&p.a, &p.b} {
			if *t != nil {
				errs = append(errs, (*t).Drop())
				*t = nil
			}
		}
	}
	return errors.Join(errs...)
}

// allocate gives every parameter its tensor a, and with two also b, of zeros.
func (o *base) allocate(tensors int) error {
	return o.do(Measurement{}, func(st *step) {
		for _, p := range st.params {
			for _, t := range []**ts.Tensor{&p.a, &p.b}[:tensors] {
				*t = st.scope.Keep(st.scope.ZerosLike(p.p))
			}
		}
	})
}

// predict guards a KOALA kind's prediction.
func (o *base) predict(f func(st *step)) error {
	if o.predicted == 1 {
		return fmt.Errorf("%s: predict: %w: the update for the last prediction is missing", o.kind, ErrPhase)
	}
	if err := o.do(Measurement{}, f); err != nil {
		return fmt.Errorf("%s: predict: %w", o.kind, err)
	}
	o.predicted = 1
	return nil
}

// updateFilter guards a KOALA kind's update. A non-finite measurement counts as
// none: the prediction stands.
func (o *base) updateFilter(m Measurement, first func(st *step), f func(st *step)) (StepInfo, error) {
	if o.predicted == 0 {
		return StepInfo{}, fmt.Errorf("%s: update: %w: predict comes first", o.kind, ErrPhase)
	}
	if m.LossVar < 0 {
		return StepInfo{}, fmt.Errorf("%s: update: LossVar is %v: a mean of squares is not negative", o.kind, m.LossVar)
	}
	if !finite(m.LossVar) {
		m.Loss = math.NaN()
	}
	info, err := o.update(m, first, f)
	if err == nil {
		o.predicted = 0
	}
	return info, err
}

// update runs one step: first, which sums over all gradients and does not write,
// and, if all it found is finite, f.
func (o *base) update(m Measurement, first func(st *step), f func(st *step)) (StepInfo, error) {
	var info StepInfo
	if !finite(m.Loss) {
		return StepInfo{NonFinite: true}, nil
	}
	err := o.do(m, func(st *step) {
		st.gather()
		first(st)
		if st.scope.OK() && st.measure() {
			f(st)
		}
		info = st.info
	})
	if err != nil {
		return StepInfo{}, fmt.Errorf("%s: update: %w", o.kind, err)
	}
	return info, nil
}

func (o *base) do(m Measurement, f func(st *step)) error {
	if o.closed {
		return errClosed
	}
	return torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() { f(&step{base: o, scope: s, Measurement: m, scale: 1}) })
		return s.Err()
	})
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
