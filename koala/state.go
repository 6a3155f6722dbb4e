package koala

import (
	"fmt"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A State is an optimizer's whole state, in a form that any writer of
// checkpoints can keep. Keys of what belongs to one parameter end in its name.
type State struct {
	Kind    string
	Scalars map[string]float64
	Ints    map[string]int64
	Tensors map[string]*ts.Tensor // to be restored, on any device
}

// fields are what a kind keeps from step to step.
type fields struct {
	scalars []scalarField
	ints    []intField
	a, b    string       // what the state calls a parameter's tensors; "" for none
	last    [3]lastField // likewise its numbers
	squares bool         // b holds squares: none is negative
	// optional tensors may be missing.
	optional bool
	// check, if there is one, looks at how the numbers fit together.
	check func(s State) error
}

type scalarField struct {
	key  string
	at   *float64
	min  float64
	over bool // min itself is too small
}

type lastField struct {
	key string // "" for none
	min float64
}

type intField struct {
	key      string
	at       *int64
	min, max int64
}

// save returns the state.
func (o *base) save(f fields) (State, error) {
	if o.closed {
		return State{}, fmt.Errorf("%s: state: %w", o.kind, errClosed)
	}
	f = o.common(f)
	s := State{Kind: o.kind, Scalars: map[string]float64{}, Ints: map[string]int64{}, Tensors: map[string]*ts.Tensor{}}
	for _, field := range f.scalars {
		s.Scalars[field.key] = *field.at
	}
	for _, field := range f.ints {
		s.Ints[field.key] = *field.at
	}
	for _, p := range o.params {
		if p.a != nil {
			s.Tensors[stateKey(f.a, p)] = p.a
		}
		if p.b != nil {
			s.Tensors[stateKey(f.b, p)] = p.b
		}
		for i, field := range f.last {
			if field.key != "" {
				s.Scalars[stateKey(field.key, p)] = p.last[i]
			}
		}
	}
	return s, nil
}

// restore puts a state in place once it has found nothing wrong with it.
func (o *base) restore(s State, f fields) error {
	if o.closed {
		return fmt.Errorf("%s: restore: %w", o.kind, errClosed)
	}
	f = o.common(f)
	next, err := o.read(s, f)
	if err == nil && f.check != nil {
		err = f.check(s)
	}
	if err == nil {
		err = o.copyTensors(next, f)
	}
	if err != nil {
		return fmt.Errorf("%s: restore: %w", o.kind, err)
	}
	for _, field := range f.scalars {
		*field.at = s.Scalars[field.key]
	}
	for _, field := range f.ints {
		*field.at = s.Ints[field.key]
	}
	err = o.free()
	for i, p := range o.params {
		p.a, p.b, p.last = next[i].a, next[i].b, next[i].last
	}
	return err
}

// common adds what every kind keeps.
func (o *base) common(f fields) fields {
	f.scalars = append(f.scalars, scalarField{key: "lr_factor", at: &o.factor})
	f.ints = append(f.ints, intField{key: "predicted", at: &o.predicted, max: 1})
	return f
}

func stateKey(name string, p *param) string { return name + "." + p.name }

// A paramState is what a state holds for one parameter.
type paramState struct {
	a, b *ts.Tensor
	last [3]float64
}

// read checks s against the optimizer and sorts it by parameter.
func (o *base) read(s State, f fields) ([]paramState, error) {
	if s.Kind != o.kind {
		return nil, fmt.Errorf("the state is that of optimizer %q", s.Kind)
	}
	r := newStateReader(s)
	for _, field := range f.scalars {
		r.scalar(field)
	}
	for _, field := range f.ints {
		r.integer(field)
	}
	states := make([]paramState, len(o.params))
	for i, p := range o.params {
		st := &states[i]
		st.a, st.b = r.tensor(f.a, p, f.optional), r.tensor(f.b, p, f.optional)
		for j, field := range f.last {
			if field.key != "" {
				st.last[j] = r.scalar(scalarField{key: stateKey(field.key, p), min: field.min})
			}
		}
	}
	return states, r.end()
}

// copyTensors replaces the tensors of a state by copies of the parameters'
// layout and device, if their values can be right.
func (o *base) copyTensors(states []paramState, f fields) error {
	return torch.Do(func(s *torch.Scope) error {
		var own []**ts.Tensor
		s.NoGrad(func() {
			for i := range states {
				for _, t := range []**ts.Tensor{&states[i].a, &states[i].b} {
					if *t == nil {
						continue
					}
					c := s.ZerosLike(o.params[i].p)
					s.CopyInto(c, *t)
					// Infinities and NaN times 0 are NaN, which equals nothing.
					if zero := s.Item(s.Sum(s.Scale(c, 0))); s.OK() && zero != 0 {
						s.Fail(fmt.Errorf("a tensor of parameter %s holds a number that is not finite", o.params[i].name))
						return
					}
					if f.squares && t == &states[i].b && s.Item(least(s, c)) < 0 {
						s.Fail(fmt.Errorf("tensor %q holds a negative number", stateKey(f.b, o.params[i])))
						return
					}
					*t = c
					own = append(own, t)
				}
			}
		})
		if !s.OK() {
			return s.Err()
		}
		for _, t := range own {
			s.Keep(*t)
		}
		return nil
	})
}

func least(s *torch.Scope, t *ts.Tensor) *ts.Tensor {
	return s.Apply("min", func() (*ts.Tensor, error) { return t.Min(false) }, t)
}
