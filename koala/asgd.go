package koala

import (
	"errors"
	"fmt"
	"math"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// asgd is averaged gradient descent (Polyak and Juditsky, 1992) as PyTorch has
// it: with h = g + wd p, in step n,
//
//	eta = lr/(1 + lambda lr (n-1))^alpha
//	p <- (1 - lambda eta) p - eta h
//	average <- average + (p - average)/max(1, n-1-t0)
//
// NT-ASGD (Merity, Keskar, Socher 2018) is it with lambda 0 and t0 the step at
// which validation stops getting better, which Observe finds out. The average
// takes no memory and no time before t0. n counts, for each parameter, the steps
// in which it had a gradient.
type asgd struct {
	base
	lambda, alpha float64
	steps, from   int64 // from is t0, -1 before it is known
	swapped       int64 // 1 while parameters and averages are exchanged

	// The validation losses of Observe: the best of all but the last
	// len(recent), which stand in recent, losses counting round it.
	recent   []float64
	best     float64
	observed int64
}

func newASGD(b base, o Options) (Optimizer, error) {
	return &asgd{base: b, lambda: o.Lambda, alpha: o.Alpha, from: max(o.AverageFrom, -1), recent: make([]float64, o.Nonmono)}, nil
}

func (o *asgd) fields() fields {
	f := fields{
		scalars: []scalarField{{key: "best", at: &o.best, min: lowest}},
		ints: []intField{
			{key: "steps", at: &o.steps, max: math.MaxInt64}, {key: "average_from", at: &o.from, min: -1, max: math.MaxInt64},
			{key: "observed", at: &o.observed, max: math.MaxInt64}, {key: "swapped", at: &o.swapped, max: 1},
		},
		a: "average", optional: true, last: [3]lastField{lastStep: {"step", 0}},
	}
	for i := range o.recent {
		f.scalars = append(f.scalars, scalarField{key: fmt.Sprintf("recent%d", i), at: &o.recent[i], min: lowest})
	}
	return f
}

func (o *asgd) State() (State, error) { return o.save(o.fields()) }

func (o *asgd) Restore(s State) error { return o.restore(s, o.fields()) }

func (o *asgd) Update(m Measurement) (StepInfo, error) {
	if o.swapped == 1 {
		return StepInfo{}, fmt.Errorf("%s: update: %w: the parameters are exchanged for their average", o.kind, ErrPhase)
	}
	return o.update(m, squareSums, func(st *step) {
		averaging := o.from >= 0 && o.steps >= o.from
		if averaging {
			st.needAverages()
		}
		o.steps++
		for _, l := range st.lanes {
			n := l.last[lastStep] // steps before this one
			l.last[lastStep]++
			lr := st.rate(l)
			eta := lr / math.Pow(1+o.lambda*lr*n, o.alpha)
			if averaging {
				l.K = [8]float64{st.scale, l.decay, 1 - o.lambda*eta, eta, 1 / max(1, n-float64(o.from))}
			} else {
				l.K = [8]float64{-eta * st.scale, 1 - o.lambda*eta - eta*l.decay}
			}
		}
		if averaging {
			st.run(averaged)
		} else {
			st.run(axpby)
		}
		st.info.EffectiveLR = st.LR() / math.Pow(1+o.lambda*st.LR()*float64(o.steps-1), o.alpha)
	})
}

// needAverages starts averages at the parameters' values.
func (st *step) needAverages() {
	for _, p := range st.params {
		if p.a == nil {
			p.a = st.scope.Keep(st.scope.ZerosLike(p.p))
			st.scope.CopyInto(p.a, p.p)
		}
	}
}

func (o *asgd) Observe(validationLoss float64) (started bool) {
	window := int64(len(o.recent))
	if window == 0 || math.IsNaN(validationLoss) {
		return false
	}
	if o.from < 0 && o.observed > window && validationLoss > o.best {
		o.from, started = o.steps, true
	}
	slot := &o.recent[o.observed%window]
	switch {
	case o.observed == window:
		o.best = *slot
	case o.observed > window:
		o.best = min(o.best, *slot)
	}
	*slot = max(lowest, min(validationLoss, largest))
	o.observed++
	return started
}

func (o *asgd) Averaging() bool {
	for _, p := range o.params {
		if p.a != nil {
			return true
		}
	}
	return false
}

func (o *asgd) Swap() error {
	if !o.Averaging() {
		return nil
	}
	err := o.do(Measurement{}, func(st *step) {
		for _, p := range st.params {
			if p.a == nil {
				st.scope.Fail(errors.New("there is no average of " + p.name))
				return
			}
			held := st.scope.Clone(p.p)
			st.scope.CopyInto(p.p, p.a)
			st.scope.CopyInto(p.a, held)
			st.scope.Free(held)
		}
	})
	if err != nil {
		return fmt.Errorf("%s: swap: %w", o.kind, err)
	}
	o.swapped = 1 - o.swapped
	return nil
}

var _ Averager = (*asgd)(nil)

// averaged is d = k0 g + k1 p; p = k2 p - k3 d; a += k4 (p - a).
var averaged = pass{
	kernel: torch.KernelAveraged,
	operators: func(s *torch.Scope, l *lane) {
		d := decayed(s, l)
		s.ScaleInPlace(l.P, l.K[2])
		s.AddInPlace(l.P, s.Scale(d, -l.K[3]))
		s.AddInPlace(l.A, s.Scale(s.Sub(l.P, l.A), l.K[4]))
	},
}
