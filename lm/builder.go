package lm

import (
	"fmt"
	"math"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A Builder makes a model's tensors. Its path, such as "model.layers.3.", is the
// prefix of its parameters' names.
//
//	p.In("mlp").In("down_proj").Matrix("weight", init, out, in) // ...mlp.down_proj.weight
type Builder struct {
	path  string
	model *building
}

// building is the model under construction, which the Builders of all paths share.
type building struct {
	scope   *torch.Scope
	device  gotch.Device
	params  []Param
	inits   []Init       // of params
	buffers []*ts.Tensor // constants, which checkpoints leave out
}

// initStep is the step number under which initial weights are drawn; training
// steps count from 0.
const initStep = -1

// Build runs make, which makes a model's parameters through p, on device. Initial
// weights depend on seed alone. On an error Build frees all tensors.
func Build(seed uint64, device gotch.Device, make func(p Builder)) (Weights, error) {
	b := &building{device: device}
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(seed, initStep, 0); err != nil {
			return err
		}
		b.scope = s
		make(Builder{model: b})
		b.fill()
		if s.OK() {
			for _, p := range b.params {
				s.Keep(p.Tensor)
			}
			for _, t := range b.buffers {
				s.Keep(t)
			}
		}
		return s.Err()
	})
	if err != nil {
		return Weights{}, fmt.Errorf("make the model: %w", lower(err, "model.layers, model.embed or model.hidden"))
	}
	return Weights{device: device, params: b.params, buffers: b.buffers}, nil
}

// Weights are a model's parameters and buffers, on a device. A model embeds them.
type Weights struct {
	device  gotch.Device
	params  []Param
	buffers []*ts.Tensor
}

// Params returns the trained tensors in the order of their creation.
func (w *Weights) Params() []Param { return w.params }

// Close frees the tensors.
func (w *Weights) Close() {
	for _, p := range w.params {
		_ = p.Tensor.Drop()
	}
	for _, t := range w.buffers {
		_ = t.Drop()
	}
}

// In returns a Builder for the part of the model named name.
func (p Builder) In(name string) Builder { return Builder{p.path + name + ".", p.model} }

// At returns a Builder for part number i of a list.
func (p Builder) At(i int) Builder { return p.In(fmt.Sprint(i)) }

// Matrix makes the weight of a linear or recurrent layer.
func (p Builder) Matrix(name string, init Init, shape ...int64) *ts.Tensor {
	return p.add(Param{Name: name, Role: Matrix, Decay: true}, init, shape)
}

// Fused makes a weight in which several matrices lie side by side along dimension
// dim, with these sizes.
func (p Builder) Fused(name string, init Init, dim int, sizes []int64, shape ...int64) *ts.Tensor {
	return p.add(Param{Name: name, Role: Matrix, Decay: true, Parts: sizes, PartsDim: dim}, init, shape)
}

// Embedding makes a table with a row for each token or position.
func (p Builder) Embedding(name string, init Init, shape ...int64) *ts.Tensor {
	return p.add(Param{Name: name, Role: Embedding, Decay: true}, init, shape)
}

// Output makes the weight of an output layer, with a row for each token.
func (p Builder) Output(name string, init Init, shape ...int64) *ts.Tensor {
	return p.add(Param{Name: name, Role: OutputRow, Decay: true}, init, shape)
}

// Vector makes a bias or a gain.
func (p Builder) Vector(name string, init Init, size int64) *ts.Tensor {
	return p.add(Param{Name: name, Role: Vector}, init, []int64{size})
}

// add makes one parameter, which fill fills.
func (p Builder) add(param Param, init Init, shape []int64) *ts.Tensor {
	m := p.model
	t := m.scope.Empty(shape, gotch.Float, m.device)
	if t == nil {
		return nil
	}
	m.scope.RequireGrad(t, true)
	param.Name, param.Tensor = p.path+param.Name, t
	m.params, m.inits = append(m.params, param), append(m.inits, init)
	return t
}

// fill gives all parameters their initial values, once all have their memory: a model
// that does not fit fails before it costs time. Weights are drawn on the CPU, whatever
// the device, so that a seed gives the same weights everywhere.
func (m *building) fill() {
	m.scope.NoGrad(func() {
		for i, p := range m.params {
			if !m.scope.OK() {
				return
			}
			if m.device == gotch.CPU {
				m.inits[i](m.scope, p.Tensor)
				continue
			}
			drawn := m.scope.Empty(torch.Shape(p.Tensor), gotch.Float, gotch.CPU)
			m.inits[i](m.scope, drawn)
			m.scope.CopyInto(p.Tensor, drawn)
			m.scope.Free(drawn)
		}
	})
}

// Buffer makes a constant tensor that the model keeps beside its parameters.
func (p Builder) Buffer(values []float32, shape ...int64) *ts.Tensor {
	m := p.model
	t := m.scope.To(torch.FromSlice(m.scope, values, shape...), gotch.Float, m.device)
	m.buffers = append(m.buffers, t)
	return t
}

// Init fills a new tensor on the CPU.
type Init func(s *torch.Scope, t *ts.Tensor)

// Uniform draws from [-bound, bound).
func Uniform(bound float64) Init {
	return func(s *torch.Scope, t *ts.Tensor) { s.UniformInPlace(t, -bound, bound) }
}

// Normal draws from a normal distribution around 0.
func Normal(sd float64) Init {
	return func(s *torch.Scope, t *ts.Tensor) { s.NormalInPlace(t, 0, sd) }
}

// Constant fills with v.
func Constant(v float64) Init {
	return func(s *torch.Scope, t *ts.Tensor) { s.Fill(t, v) }
}

// inverseRoot is PyTorch's default bound for recurrent weights: 1/sqrt(units).
func inverseRoot(units int64) float64 { return 1 / math.Sqrt(float64(units)) }
