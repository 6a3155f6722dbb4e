package koala

import (
	"errors"
	"fmt"
	"math"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// An Optimizer moves parameters by their gradients. Use it from one goroutine at a
// time.
type Optimizer interface {
	// Kind returns the kind's name.
	Kind() string

	// Predict comes before the forward pass. A KOALA filter propagates its state,
	// and KOALA-M moves the parameters; the baselines do nothing. For the KOALA
	// kinds, two predictions without an update between them are an error.
	Predict() error

	// Update comes after the backward pass, reads the parameters' gradients and
	// moves the parameters. For the KOALA kinds it is an error without a Predict
	// before it.
	//
	// If the loss or a gradient is not finite, the parameters and the state stay
	// unchanged, StepInfo.NonFinite is set and the error is nil: the filter had no
	// measurement, and the next step begins with Predict again.
	//
	// After an error other than [ErrPhase] and errors about m, some parameters may
	// have moved: restore a saved state or stop.
	Update(m Measurement) (StepInfo, error)

	// UpdateFrom is Update with a measurement that may still be on the parameters'
	// device. It comes to the host with the gradients' sums, in one transfer.
	UpdateFrom(r Reading) (StepInfo, error)

	// ZeroGrad frees the gradients.
	ZeroGrad() error

	// SetLR sets a schedule's factor on the learning rate.
	SetLR(factor float64)

	// MeasureLength sets whether steps measure how far they move the parameters
	// (StepInfo.Length). Such a step copies the parameters, so measure few.
	MeasureLength(on bool)

	// LR returns the learning rate in effect, before the groups' factors.
	LR() float64

	// State returns everything, apart from the parameters, that later steps depend
	// on. The optimizer owns its tensors: read them before the next call.
	State() (State, error)

	// Restore sets the state, which must belong to the same kind and parameters, bit
	// for bit. On an error it changes nothing.
	Restore(State) error

	// Params returns the parameters, each once.
	Params() []*ts.Tensor

	// Observe passes a validation loss to the optimizer. asgd starts averaging once
	// validation stops improving; Observe returns true at that call.
	Observe(validationLoss float64) (started bool)

	// Averaging reports whether the optimizer keeps an average of the weights.
	Averaging() bool

	// Swap exchanges the parameters and their average, for an evaluation or a
	// checkpoint, and back. Without an average it does nothing.
	Swap() error

	// Close frees the optimizer's tensors, not the parameters.
	Close() error
}

// A Measurement holds a minibatch's loss and mean squared loss, see
// [spec.Measurement].
type Measurement = spec.Measurement

// A Reading is a measurement by numbers that are on the parameters' device.
type Reading struct {
	Values []*ts.Tensor // flattened and joined
	Read   func(values []float64) Measurement
}

// Known is the reading of a measurement that is on the host.
func Known(m Measurement) Reading {
	return Reading{Read: func([]float64) Measurement { return m }}
}

// joined returns the elements of all tensors as float64.
func joined(s *torch.Scope, tensors []*ts.Tensor) *ts.Tensor {
	flat := make([]*ts.Tensor, len(tensors))
	for i, t := range tensors {
		flat[i] = s.Reshape(wide(s, t), -1)
	}
	return s.Cat(0, flat...)
}

// A StepInfo describes a step, see [spec.StepInfo].
type StepInfo = spec.StepInfo

// ErrPhase is returned for calls in the wrong order: Predict comes first, then
// Update.
var ErrPhase = errors.New("out of turn")

var errClosed = errors.New("the optimizer is closed")

// New returns an optimizer of the given kind over the groups' parameters. A tensor
// that occurs more than once counts once, in its first group. Hyperparameters that
// values lacks take the defaults of the kind's authors. The error lists everything
// that is wrong with the values.
func New(kind *spec.Kind, values setting.Values, groups []Group) (Optimizer, error) {
	values, err := kind.Complete(values, nil)
	if err != nil {
		return nil, err
	}
	params, err := newParams(groups)
	if err != nil {
		return nil, fmt.Errorf("optimizer %s: %w", kind.Name, err)
	}
	o := &optimizer{
		kind: kind, rule: kind.New(values), params: params, lr: values.Float("lr"), factor: 1, clip: values.Float("clip"),
		machine: &machine{params: map[*spec.Param]*param{}},
	}
	for _, p := range params {
		o.machine.params[&p.Param] = p
		p.Value = &tensor{m: o.machine, t: p.tensor}
	}
	if d, err := params[0].tensor.Device(); err == nil {
		o.machine.lists = d.IsCuda()
	}
	o.declared = o.rule.State()
	if err := o.allocate(); err != nil {
		return nil, errors.Join(fmt.Errorf("optimizer %s: %w", kind.Name, err), o.free())
	}
	return o, nil
}

// optimizer is a rule with the parts that all kinds share: the parameters, clipping,
// the gate against numbers that are not finite, and the state.
type optimizer struct {
	kind       *spec.Kind
	rule       spec.Rule
	declared   spec.State
	params     []*param
	machine    *machine
	lr, factor float64
	clip       float64
	predicted  int64 // 1 between Predict and Update
	swapped    int64 // 1 while parameters and averages are exchanged
	closed     bool
	lengths    bool // steps are measured
}

func (o *optimizer) Kind() string { return o.kind.Name }

func (o *optimizer) SetLR(factor float64) { o.factor = factor }

func (o *optimizer) LR() float64 { return o.lr * o.factor }

func (o *optimizer) Params() []*ts.Tensor {
	tensors := make([]*ts.Tensor, len(o.params))
	for i, p := range o.params {
		tensors[i] = p.tensor
	}
	return tensors
}

func (o *optimizer) Predict() error {
	if !o.kind.Filter {
		return nil
	}
	if o.predicted == 1 {
		return fmt.Errorf("%s: predict: %w: the update for the last prediction is missing", o.kind.Name, ErrPhase)
	}
	err := o.do(func(s *torch.Scope) {
		st := o.newStep(Measurement{})
		for _, p := range o.params {
			p.Gradient, p.gradient, p.Sums = nil, nil, map[string]float64{}
			st.Params = append(st.Params, &p.Param)
		}
		if o.kind.Moves {
			o.begin(s, st.Params)
		}
		o.rule.Predict(st)
	})
	if err != nil {
		return fmt.Errorf("%s: predict: %w", o.kind.Name, err)
	}
	o.predicted = 1
	return nil
}

func (o *optimizer) Update(m Measurement) (StepInfo, error) { return o.UpdateFrom(Known(m)) }

func (o *optimizer) UpdateFrom(r Reading) (StepInfo, error) {
	err := o.inTurn()
	var info StepInfo
	if err == nil {
		err = o.do(func(s *torch.Scope) {
			st := o.newStep(Measurement{})
			o.gather(s, st)
			o.machine.reading = &r
			o.rule.Measure(st)
			if st.Measurement = o.machine.measurement(); !s.OK() {
				return
			}
			if o.kind.Filter && st.MeanSquare < 0 {
				s.Fail(fmt.Errorf("MeanSquare is %v: a mean of squares is not negative", st.MeanSquare))
			} else if o.gate(st) {
				if !o.kind.Moves {
					o.begin(s, st.Params)
				}
				o.rule.Update(st)
				o.length(st)
			}
			info = st.Info
		})
	}
	if err != nil {
		return StepInfo{}, fmt.Errorf("%s: update: %w", o.kind.Name, err)
	}
	o.predicted = 0
	return info, o.forget()
}

// inTurn returns an error unless an update may come now.
func (o *optimizer) inTurn() error {
	switch {
	case o.closed:
		return errClosed
	case o.kind.Filter && o.predicted == 0:
		return fmt.Errorf("%w: predict comes first", ErrPhase)
	case o.swapped == 1:
		return fmt.Errorf("%w: the parameters are exchanged for their average", ErrPhase)
	}
	return nil
}

func (o *optimizer) newStep(m Measurement) *spec.Step {
	return &spec.Step{Measurement: m, Clip: 1, MayClip: o.clip > 0, LR: o.LR(), Machine: o.machine}
}

// gather collects the gradients.
func (o *optimizer) gather(s *torch.Scope, st *spec.Step) {
	for _, p := range o.params {
		p.Sums = map[string]float64{}
		p.gradient = s.Grad(p.tensor)
		if p.gradient == nil || p.Count == 0 {
			p.Gradient, p.gradient = nil, nil
			st.Info.Skipped++
			st.Skipped = append(st.Skipped, &p.Param)
			continue
		}
		if p.fused && !o.machine.operators || o.machine.lists {
			p.gradient = s.LaidOutLike(p.tensor, p.gradient)
		}
		p.Gradient = &tensor{m: o.machine, t: p.gradient}
		st.Params = append(st.Params, &p.Param)
	}
}

// gate computes the gradients' norm and the factor that clips it from the first
// pass. It reports whether the step may continue: the measurement and all sums are
// finite, and the parameters' types can hold the squares that the rule keeps.
func (o *optimizer) gate(st *spec.Step) bool {
	if !finite(st.Loss) || o.kind.Filter && !finite(st.MeanSquare) {
		st.Info = StepInfo{NonFinite: true}
		return false
	}
	square := 0.0
	for _, p := range st.Params {
		for _, v := range p.Sums {
			if !finite(v) {
				st.Info = StepInfo{NonFinite: true}
				return false
			}
		}
		square += p.Sums["gg"]
	}
	norm := math.Sqrt(square)
	if !finite(norm) {
		st.Info = StepInfo{NonFinite: true}
		return false
	}
	st.Info.GradNorm = norm
	if o.clip > 0 && norm > o.clip {
		st.Clip = o.clip / norm
	}
	if !o.keepsSquares() {
		return true
	}
	for _, p := range st.Params {
		if st.Clip*st.Clip*p.Sums["gg"] > largestOf(o.machine.params[p].tensor.DType()) {
			st.Info = StepInfo{NonFinite: true}
			return false
		}
	}
	return true
}

func (o *optimizer) keepsSquares() bool {
	for _, t := range o.declared.Tensors {
		if t.Squares {
			return true
		}
	}
	return false
}

func (o *optimizer) MeasureLength(on bool) { o.lengths = on }

// begin copies the parameters that the step may move if its length is measured.
func (o *optimizer) begin(s *torch.Scope, params []*spec.Param) {
	if !o.lengths {
		return
	}
	copies := map[*spec.Param]spec.Tensor{}
	o.machine.Each(params, func(p *spec.Param) { copies[p] = o.machine.Hold(operand(p.Value).each("clone")) })
	for p, t := range copies {
		if t := raw(t); s.OK() {
			o.machine.params[p].before = s.Keep(t)
		}
	}
}

// length measures how far the step moved the parameters from their copies.
func (o *optimizer) length(st *spec.Step) {
	sweep := spec.Sweep{Kernel: "squares"}
	sweep.Sums = func(i int) spec.Sums {
		moved := sweep.Params[i].Gradient
		return spec.Sums{"gg": moved.Dot(moved)}
	}
	for _, p := range o.params {
		if p.before == nil || p.Count == 0 {
			continue
		}
		p.gradient, p.Gradient = p.before, &tensor{m: o.machine, t: p.before}
		sweep.Params, sweep.Values = append(sweep.Params, &p.Param), append(sweep.Values, nil)
	}
	o.machine.Each(sweep.Params, func(p *spec.Param) { operand(p.Gradient).change("sub_", p.Value) })
	for i, sums := range o.machine.Run(sweep) {
		length := st.Info.Length.Of(sweep.Params[i].Role)
		*length = math.Hypot(*length, math.Sqrt(sums["gg"]))
	}
}

// forget frees the copies.
func (o *optimizer) forget() error {
	var errs []error
	for _, p := range o.params {
		if p.before != nil {
			errs, p.before = append(errs, p.before.Drop()), nil
		}
	}
	return errors.Join(errs...)
}

func (o *optimizer) ZeroGrad() error {
	return torch.Do(func(s *torch.Scope) error {
		for _, p := range o.params {
			s.ClearGrad(p.tensor)
		}
		return nil
	})
}

func (o *optimizer) Observe(validationLoss float64) bool { return o.rule.Observe(validationLoss) }

func (o *optimizer) Averaging() bool {
	for _, p := range o.params {
		if p.state[o.declared.Average] != nil {
			return true
		}
	}
	return false
}

func (o *optimizer) Swap() error {
	if !o.Averaging() {
		return nil
	}
	err := o.do(func(s *torch.Scope) {
		for _, p := range o.params {
			average := p.state[o.declared.Average]
			if average == nil {
				s.Fail(errors.New("there is no average of " + p.Name))
				return
			}
			held := s.Clone(p.tensor)
			s.CopyInto(p.tensor, average)
			s.CopyInto(average, held)
			s.Free(held)
		}
	})
	if err != nil {
		return fmt.Errorf("%s: swap: %w", o.kind.Name, err)
	}
	o.swapped = 1 - o.swapped
	return nil
}

func (o *optimizer) Close() error {
	o.closed = true
	return errors.Join(o.free(), o.forget())
}

// free frees the state's tensors.
func (o *optimizer) free() error {
	var errs []error
	for _, p := range o.params {
		for name, t := range p.state {
			errs = append(errs, t.Drop())
			delete(p.state, name)
			delete(p.State, name)
		}
	}
	return errors.Join(errs...)
}

// allocate makes the state tensors that the rule declares.
func (o *optimizer) allocate() error {
	return o.do(func(s *torch.Scope) {
		for _, p := range o.params {
			for _, n := range o.declared.Numbers {
				p.Numbers[n.Name] = n.Start
			}
			for _, declared := range o.declared.Tensors {
				shape, own := p.stateShape(declared)
				if shape == nil || declared.Optional {
					continue
				}
				t := newState(s, p, shape, own)
				if declared.Start != nil {
					declared.Start(&p.Param, &tensor{m: o.machine, t: t})
				}
				if s.OK() {
					p.keep(o.machine, declared.Name, s.Keep(t))
				}
			}
		}
	})
}

// do runs f without recording gradients, with a new scope for the machine.
func (o *optimizer) do(f func(s *torch.Scope)) error {
	if o.closed {
		return errClosed
	}
	return torch.Do(func(s *torch.Scope) error {
		o.machine.scope, o.machine.step = s, s
		defer func() { o.machine.scope, o.machine.step = nil, nil }()
		s.NoGrad(func() { f(s) })
		return s.Err()
	})
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
