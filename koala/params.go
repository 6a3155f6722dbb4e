package koala

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// A Param is a parameter with the facts about it that optimizers use.
type Param struct {
	Tensor *ts.Tensor
	Name   string    // for messages and as key of the state; "" for p0, p1, ...
	Role   spec.Role // "" for a matrix, or with fewer than two dimensions a vector

	// Parts are the sizes, along dimension PartsDim, of the matrices that share the
	// tensor: queries, keys and values, or the gates of a recurrent layer. It is nil
	// for one matrix.
	Parts    []int64
	PartsDim int
}

// Params returns the tensors as parameters without names.
func Params(tensors ...*ts.Tensor) []Param {
	params := make([]Param, len(tensors))
	for i, t := range tensors {
		params[i].Tensor = t
	}
	return params
}

// A Group is a set of parameters that share settings.
type Group struct {
	Params      []Param
	LR          float64 // multiplies the learning rate; 0 means 1
	WeightDecay float64
}

// Groups sorts a model's parameters into groups, by kind's settings of weight decay
// and of the factors on the learning rate. With decoupled weight decay, biases and
// norm gains do not decay unless decay_norms is set.
func Groups(kind *spec.Kind, values setting.Values, params []Param) ([]Group, error) {
	values, err := kind.Complete(values, nil)
	if err != nil {
		return nil, err
	}
	var groups []Group
	for _, p := range params {
		g := Group{LR: 1, WeightDecay: values.Float("weight_decay")}
		switch p.role() {
		case spec.Vector:
			g.LR = values.Float("lr_norms")
			if !values.Bool("decay_norms") {
				g.WeightDecay = 0
			}
		case spec.Embedding:
			g.LR = values.Float("lr_embeddings")
			if !values.Bool("decay_embeddings") {
				g.WeightDecay = 0
			}
		case spec.Output:
			g.LR = values.Float("lr_embeddings")
		}
		i := slices.IndexFunc(groups, func(other Group) bool { return other.LR == g.LR && other.WeightDecay == g.WeightDecay })
		if i < 0 {
			i, groups = len(groups), append(groups, g)
		}
		groups[i].Params = append(groups[i].Params, p)
	}
	return groups, nil
}

func (p Param) role() spec.Role {
	switch {
	case p.Role != "":
		return p.Role
	case len(torch.Shape(p.Tensor)) < 2:
		return spec.Vector
	}
	return spec.Matrix
}

// param is a parameter with its tensors.
type param struct {
	spec.Param
	tensor   *ts.Tensor
	gradient *ts.Tensor // of the step
	before   *ts.Tensor // copy from the beginning of the step; nil unless its length is measured
	state    map[string]*ts.Tensor
	fused    bool // the CPU's kernels accept it
}

// newParams returns the groups' parameters, each once.
func newParams(groups []Group) ([]*param, error) {
	var (
		params []*param
		names  = map[string]bool{}
		places = map[uintptr]*param{} // by the address of the elements
	)
	for i, g := range groups {
		if err := g.check(); err != nil {
			return nil, fmt.Errorf("group %d: %w", i, err)
		}
		for _, q := range g.Params {
			p := &param{tensor: q.Tensor, state: map[string]*ts.Tensor{}}
			p.Name, p.LR, p.WeightDecay = q.Name, g.LR, g.WeightDecay
			p.State, p.Numbers = map[string]spec.Tensor{}, map[string]float64{}
			if p.Name == "" {
				p.Name = fmt.Sprintf("p%d", len(params))
			}
			if p.LR == 0 {
				p.LR = 1
			}
			if err := p.inspect(q); err != nil {
				return nil, fmt.Errorf("parameter %s: %w", p.Name, err)
			}
			if p.Count > 0 {
				place := torch.Address(p.tensor)
				if other := places[place]; other != nil {
					if torch.Same(p.tensor, other.tensor) {
						continue // tied
					}
					return nil, fmt.Errorf("parameter %s shares memory with parameter %s without being the same tensor", p.Name, other.Name)
				}
				places[place] = p
			}
			if names[p.Name] {
				return nil, fmt.Errorf("two parameters have the name %q", p.Name)
			}
			names[p.Name] = true
			params = append(params, p)
			if have, want := device(p.tensor), device(params[0].tensor); have != want {
				return nil, fmt.Errorf("parameter %s is on %s and %s on %s: expected one device for all", p.Name, have, params[0].Name, want)
			}
		}
	}
	if len(params) == 0 {
		return nil, errors.New("there are no parameters")
	}
	return params, nil
}

func (g Group) check() error {
	if !(g.LR >= 0) || math.IsInf(g.LR, 0) {
		return fmt.Errorf("LR is %v: expected a positive number, or 0 for 1", g.LR)
	}
	if !(g.WeightDecay >= 0) || math.IsInf(g.WeightDecay, 0) {
		return fmt.Errorf("WeightDecay is %v: expected 0 or a positive number", g.WeightDecay)
	}
	return nil
}

// inspect checks the tensor and records its shape and role.
func (p *param) inspect(q Param) error {
	p.Shape = torch.Shape(p.tensor)
	if p.Shape == nil {
		return errors.New("the tensor is nil or undefined")
	}
	switch p.tensor.DType() {
	case gotch.Float, gotch.Double, gotch.Half, gotch.BFloat16:
	default:
		return fmt.Errorf("%s: expected a floating point type", torch.Describe(p.tensor))
	}
	p.Count = torch.Count(p.tensor)
	p.fused = torch.Fusable(p.tensor)
	p.Role, p.Parts, p.PartsDim = q.role(), q.Parts, q.PartsDim
	if p.Parts == nil {
		return nil
	}
	total := int64(0)
	for _, size := range p.Parts {
		total += size
	}
	if p.PartsDim < 0 || p.PartsDim >= len(p.Shape) || total != p.Shape[p.PartsDim] {
		return fmt.Errorf("%s: parts %v along dimension %d are not the whole of it", torch.Describe(p.tensor), p.Parts, p.PartsDim)
	}
	return nil
}

// stateShape returns the shape of a declared state tensor, nil if p has none, and
// whether it is p's own.
func (p *param) stateShape(declared spec.TensorState) (shape []int64, own bool) {
	if declared.Shape == nil {
		return p.Shape, true
	}
	shape = declared.Shape(&p.Param)
	return shape, slices.Equal(shape, p.Shape)
}

// keep stores t, which the caller owns, as the state tensor of that name.
func (p *param) keep(m *machine, name string, t *ts.Tensor) {
	p.state[name] = t
	p.State[name] = &tensor{m: m, t: t}
}

// newState returns zeros of p's type and device, with p's layout if they have its
// shape.
func newState(s *torch.Scope, p *param, shape []int64, own bool) *ts.Tensor {
	if own {
		return s.ZerosLike(p.tensor)
	}
	d, err := p.tensor.Device()
	s.Fail(err)
	return s.Zeros(shape, p.tensor.DType(), d)
}

// largestOf returns the largest number of a type.
func largestOf(dtype gotch.DType) float64 {
	switch dtype {
	case gotch.Double:
		return math.MaxFloat64
	case gotch.Half:
		return 65504
	}
	return math.MaxFloat32 // bfloat16's too
}

func device(t *ts.Tensor) string {
	d, err := t.Device()
	if err != nil {
		return "no device"
	}
	return torch.DeviceName(d)
}
