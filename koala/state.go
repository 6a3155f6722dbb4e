package koala

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// A State is an optimizer's whole state, in a form for checkpoints. The keys of a
// parameter's tensors and numbers end in its name.
type State struct {
	Kind    string
	Scalars map[string]float64
	Ints    map[string]int64
	Tensors map[string]*ts.Tensor // to be restored, on any device
}

func (o *optimizer) scalars() []spec.Scalar {
	return append(slices.Clip(o.declared.Scalars), spec.Scalar{Key: "lr_factor", At: &o.factor})
}

func (o *optimizer) ints() []spec.Int {
	ints := append(slices.Clip(o.declared.Ints), spec.Int{Key: "predicted", At: &o.predicted, Max: 1})
	if o.declared.Average != "" {
		ints = append(ints, spec.Int{Key: "swapped", At: &o.swapped, Max: 1})
	}
	return ints
}

func (o *optimizer) State() (State, error) {
	if o.closed {
		return State{}, fmt.Errorf("%s: state: %w", o.kind.Name, errClosed)
	}
	s := State{Kind: o.kind.Name, Scalars: map[string]float64{}, Ints: map[string]int64{}, Tensors: map[string]*ts.Tensor{}}
	for _, scalar := range o.scalars() {
		s.Scalars[scalar.Key] = *scalar.At
	}
	for _, number := range o.ints() {
		s.Ints[number.Key] = *number.At
	}
	for _, p := range o.params {
		for name, t := range p.state {
			s.Tensors[stateKey(name, p)] = t
		}
		for _, number := range o.declared.Numbers {
			s.Scalars[stateKey(number.Name, p)] = p.Numbers[number.Name]
		}
	}
	return s, nil
}

// Restore checks all of s before it changes anything.
func (o *optimizer) Restore(s State) error {
	if o.closed {
		return fmt.Errorf("%s: restore: %w", o.kind.Name, errClosed)
	}
	next, err := o.read(s)
	if err == nil && o.declared.Check != nil {
		err = o.declared.Check(func(key string) float64 { return s.Scalars[key] })
	}
	if err == nil {
		err = o.copyTensors(next)
	}
	if err != nil {
		return fmt.Errorf("%s: restore: %w", o.kind.Name, err)
	}
	for _, scalar := range o.scalars() {
		*scalar.At = s.Scalars[scalar.Key]
	}
	for _, number := range o.ints() {
		*number.At = s.Ints[number.Key]
	}
	err = o.free()
	for i, p := range o.params {
		for name, t := range next[i] {
			p.keep(o.machine, name, t)
		}
		for _, number := range o.declared.Numbers {
			p.Numbers[number.Name] = s.Scalars[stateKey(number.Name, p)]
		}
	}
	return err
}

func stateKey(name string, p *param) string { return name + "." + p.Name }

// read checks s against the optimizer and returns its tensors by parameter and
// name.
func (o *optimizer) read(s State) ([]map[string]*ts.Tensor, error) {
	if s.Kind != o.kind.Name {
		return nil, fmt.Errorf("the state belongs to optimizer %q", s.Kind)
	}
	r := &stateReader{scalars: maps.Clone(s.Scalars), ints: maps.Clone(s.Ints), tensors: maps.Clone(s.Tensors)}
	for _, scalar := range o.scalars() {
		r.scalar(scalar)
	}
	for _, number := range o.ints() {
		r.integer(number)
	}
	states := make([]map[string]*ts.Tensor, len(o.params))
	for i, p := range o.params {
		states[i] = map[string]*ts.Tensor{}
		for _, declared := range o.declared.Tensors {
			if t := r.tensor(declared, p); t != nil {
				states[i][declared.Name] = t
			}
		}
		for _, number := range o.declared.Numbers {
			r.scalar(spec.Scalar{Key: stateKey(number.Name, p), Min: number.Min, Max: number.Max})
		}
	}
	return states, r.end()
}

// copyTensors replaces the tensors of a state by copies with the optimizer's layout
// and device, if their values are valid.
func (o *optimizer) copyTensors(states []map[string]*ts.Tensor) error {
	return torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() {
			for i, p := range o.params {
				for _, declared := range o.declared.Tensors {
					from := states[i][declared.Name]
					if from == nil {
						continue
					}
					shape, own := p.stateShape(declared)
					c := newState(s, p, shape, own)
					s.CopyInto(c, from)
					// Infinities and NaN times 0 are NaN, which equals nothing.
					if zero := s.Item(s.Sum(s.Scale(c, 0))); s.OK() && zero != 0 {
						s.Fail(fmt.Errorf("a tensor of parameter %s holds a number that is not finite", p.Name))
						return
					}
					if declared.Squares && torch.Count(c) > 0 && s.Item(least(s, c)) < 0 {
						s.Fail(fmt.Errorf("tensor %q holds a negative number", stateKey(declared.Name, p)))
						return
					}
					states[i][declared.Name] = c
				}
			}
		})
		if !s.OK() {
			return s.Err()
		}
		for _, tensors := range states {
			for _, t := range tensors {
				s.Keep(t)
			}
		}
		return nil
	})
}

func least(s *torch.Scope, t *ts.Tensor) *ts.Tensor {
	return s.Apply("min", func() (*ts.Tensor, error) { return t.Min(false) }, t)
}

// A stateReader reads a state key by key and collects all errors.
type stateReader struct {
	scalars  map[string]float64
	ints     map[string]int64
	tensors  map[string]*ts.Tensor
	problems []string
}

func (r *stateReader) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

func (r *stateReader) scalar(f spec.Scalar) {
	v, ok := r.scalars[f.Key]
	delete(r.scalars, f.Key)
	largest := f.Max
	if largest == 0 {
		largest = spec.Largest
	}
	switch {
	case !ok:
		r.problem("scalar %q is missing", f.Key)
	case !(v >= f.Min && v <= largest), f.Open && v == f.Min:
		want := "a finite number"
		switch {
		case f.Max != 0:
			want = fmt.Sprintf("a number from %v to %v", f.Min, f.Max)
		case f.Open:
			want = fmt.Sprintf("a number above %v", f.Min)
		case f.Min > spec.Lowest:
			want = fmt.Sprintf("a number not below %v", f.Min)
		}
		r.problem("scalar %q is %v: expected %s", f.Key, v, want)
	}
}

func (r *stateReader) integer(f spec.Int) {
	v, ok := r.ints[f.Key]
	delete(r.ints, f.Key)
	if !ok {
		r.problem("integer %q is missing", f.Key)
	} else if v < f.Min || v > f.Max {
		r.problem("integer %q is %d: expected one from %d to %d", f.Key, v, f.Min, f.Max)
	}
}

func (r *stateReader) tensor(declared spec.TensorState, p *param) *ts.Tensor {
	shape, own := p.stateShape(declared)
	if shape == nil {
		return nil
	}
	key := stateKey(declared.Name, p)
	t, ok := r.tensors[key]
	delete(r.tensors, key)
	if !ok {
		if !declared.Optional {
			r.problem("tensor %q is missing", key)
		}
		return nil
	}
	want := torch.Describe(p.tensor)
	if !own {
		want = torch.DescribeAs(p.tensor, shape)
	}
	if have := torch.Describe(t); have != want {
		r.problem("tensor %q is %s: expected %s", key, have, want)
		return nil
	}
	return t
}

// end reports unread keys: they belong to another model or configuration.
func (r *stateReader) end() error {
	left := slices.Concat(slices.Sorted(maps.Keys(r.scalars)), slices.Sorted(maps.Keys(r.ints)), slices.Sorted(maps.Keys(r.tensors)))
	for _, key := range left {
		r.problem("%q belongs to no parameter or setting of this optimizer", key)
	}
	const most = 5 // a state of another model has hundreds
	if n := len(r.problems); n > most {
		r.problems = append(r.problems[:most], fmt.Sprintf("and %d more", n-most))
	}
	if len(r.problems) > 0 {
		return errors.New(strings.Join(r.problems, "; "))
	}
	return nil
}
