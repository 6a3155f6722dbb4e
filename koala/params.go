package koala

import (
	"errors"
	"fmt"
	"math"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A param is one parameter tensor with its settings and its optimizer state.
type param struct {
	name  string
	p     *ts.Tensor
	count int64   // elements
	lr    float64 // factor of its group
	decay float64
	fused bool // the CPU's kernels take it

	a, b *ts.Tensor // state of p's shape, nil until there is any
	last [3]float64 // the kind's numbers from p's last step
}

// newParams returns the groups' parameters, each once.
func newParams(groups []Group) ([]*param, error) {
	var (
		params []*param
		names  = map[string]bool{}
		places = map[uintptr]*param{} // by where the elements lie
	)
	for i, g := range groups {
		if err := g.check(); err != nil {
			return nil, fmt.Errorf("group %d: %w", i, err)
		}
		for j, t := range g.Params {
			p := &param{name: fmt.Sprintf("p%d", len(params)), p: t, lr: g.LR, decay: g.WeightDecay}
			if g.Names != nil {
				p.name = g.Names[j]
			}
			if p.lr == 0 {
				p.lr = 1
			}
			if err := p.check(); err != nil {
				return nil, fmt.Errorf("parameter %s: %w", p.name, err)
			}
			if p.count > 0 {
				place := torch.Address(t)
				if other := places[place]; other != nil {
					if torch.Same(t, other.p) {
						continue // tied
					}
					return nil, fmt.Errorf("parameter %s shares memory with parameter %s without being the same tensor", p.name, other.name)
				}
				places[place] = p
			}
			if names[p.name] {
				return nil, fmt.Errorf("two parameters have the name %q", p.name)
			}
			names[p.name] = true
			params = append(params, p)
			if have, want := device(t), device(params[0].p); have != want {
				return nil, fmt.Errorf("parameter %s is on %s and %s on %s: expected one device for all", p.name, have, params[0].name, want)
			}
		}
	}
	if len(params) == 0 {
		return nil, errors.New("there are no parameters")
	}
	return params, nil
}

func (g Group) check() error {
	if g.Names != nil && len(g.Names) != len(g.Params) {
		return fmt.Errorf("%d names for %d parameters", len(g.Names), len(g.Params))
	}
	if !(g.LR >= 0) || math.IsInf(g.LR, 0) {
		return fmt.Errorf("LR is %v: expected a positive number, or 0 for 1", g.LR)
	}
	if !(g.WeightDecay >= 0) || math.IsInf(g.WeightDecay, 0) {
		return fmt.Errorf("WeightDecay is %v: expected 0 or a positive number", g.WeightDecay)
	}
	return nil
}

// check looks at what libtorch knows of p.
func (p *param) check() error {
	if torch.Shape(p.p) == nil {
		return errors.New("the tensor is nil or undefined")
	}
	switch p.p.DType() {
	case gotch.Float, gotch.Double, gotch.Half, gotch.BFloat16:
	default:
		return fmt.Errorf("%s: expected a floating point type", torch.Describe(p.p))
	}
	p.count = torch.Count(p.p)
	p.fused = torch.Fusable(p.p)
	return nil
}

func device(t *ts.Tensor) string {
	d, err := t.Device()
	if err != nil {
		return "no device"
	}
	return torch.DeviceName(d)
}
