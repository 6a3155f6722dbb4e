package lm

import (
	"math"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// initStep is the step number under which initial weights are drawn; training
// steps count from 0.
const initStep = -1

// params collects a model's tensors while it is made.
type params struct {
	list   []Param
	tables []*ts.Tensor // constants beside them
	s      *torch.Scope
	device gotch.Device
}

// An initializer fills a new tensor on the CPU.
type initializer func(s *torch.Scope, t *ts.Tensor)

func uniform(bound float64) initializer {
	return func(s *torch.Scope, t *ts.Tensor) { s.UniformInPlace(t, -bound, bound) }
}

func normal(sd float64) initializer {
	return func(s *torch.Scope, t *ts.Tensor) { s.NormalInPlace(t, 0, sd) }
}

func constant(v float64) initializer {
	return func(s *torch.Scope, t *ts.Tensor) { s.Fill(t, v) }
}

// add makes one parameter, a matrix or a vector. Weights are drawn on the CPU, whatever the device, so
// that a seed gives the same ones everywhere.
func (p *params) add(name string, init initializer, shape ...int64) *ts.Tensor {
	t := p.s.Empty(shape, gotch.Float, gotch.CPU)
	if t == nil {
		return nil
	}
	init(p.s, t)
	t = p.s.To(t, gotch.Float, p.device)
	p.s.RequireGrad(t, true)
	role := Matrix
	if len(shape) < 2 {
		role = Vector
	}
	p.list = append(p.list, Param{Name: name, Tensor: t, Decay: len(shape) > 1, Role: role})
	return t
}

// addAs makes one parameter of another role.
func (p *params) addAs(role Role, name string, init initializer, shape ...int64) *ts.Tensor {
	t := p.add(name, init, shape...)
	if t != nil {
		p.list[len(p.list)-1].Role = role
	}
	return t
}

// split records that the parameter of that name holds several matrices.
func (p *params) split(name string, dim int, sizes ...int64) {
	for i := range p.list {
		if p.list[i].Name == name {
			p.list[i].Parts, p.list[i].PartsDim = sizes, dim
		}
	}
}

// table makes a constant that the model keeps beside its parameters.
func (p *params) table(values []float32, shape ...int64) *ts.Tensor {
	t := p.s.To(torch.FromSlice(p.s, values, shape...), gotch.Float, p.device)
	p.tables = append(p.tables, t)
	return t
}

// build runs make, which adds the parameters, and returns them; after an error
// none is left.
func build(seed uint64, device gotch.Device, make func(p *params)) (params, error) {
	p := params{device: device}
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(seed, initStep, 0); err != nil {
			return err
		}
		p.s = s
		make(&p)
		if s.OK() {
			for _, param := range p.list {
				s.Keep(param.Tensor)
			}
			for _, t := range p.tables {
				s.Keep(t)
			}
		}
		return s.Err()
	})
	p.s = nil
	return p, err
}

func dropAll(list []Param) {
	for _, p := range list {
		_ = p.Tensor.Drop()
	}
}

// inverseRoot is PyTorch's default bound for recurrent weights: 1/sqrt(units).
func inverseRoot(units int64) float64 { return 1 / math.Sqrt(float64(units)) }
