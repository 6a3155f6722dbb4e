package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// Adafactor keeps the mean squares of a matrix's rows and columns in place of its
// entries (Shazeer and Stern, 2018), as PyTorch has it: in step t,
//
//	rho = min(lr, 1/sqrt(t)),  alpha = max(eps2, rms(p)) rho,  w = t^-beta2_power
//	r = (1 - w) r + w mean of g^2 over columns,  c likewise over rows
//	v = r c/max(mean(r), eps1),  or for vectors  v = (1 - w) v + w g^2
//	u = g/max(sqrt(v), eps1),  p <- p - alpha u/max(1, rms(u)/d)
//
// after p has shrunk by the factor 1 - lr wd.
var Adafactor = register(Kind{
	Name: "adafactor", Rank: 28, DecoupledDecay: true,
	About: "Adam with the mean squares of rows and columns alone (Shazeer and Stern 2018), as PyTorch",
	Hyper: []setting.Declaration{
		lr(always(0.01)), weightDecay(always(0)), usualClip(),
		hyper("beta2_power", "power of the step with which the memory of the squares grows", setting.Fraction, always(0.8)),
		hyper("d", "largest root mean square of a step before its learning rate", setting.Positive, always(1)),
		hidden(hyper("eps1", "lower bound of the squares' roots; 0 is the type's precision", setting.Natural, always(0))),
		hidden(hyper("eps2", "lower bound of the parameters' root mean square", setting.Positive, always(1e-3))),
	},
	Published: setting.Values{"lr": 0.01, "clip": 0},
	Temporary: copies(5),
	New: func(v setting.Values) Rule {
		return &adafactor{power: v.Float("beta2_power"), d: v.Float("d"), eps1: v.Float("eps1"), eps2: v.Float("eps2")}
	},
})

type adafactor struct {
	baseline
	power, d, eps1, eps2 float64
}

// State holds mean squares: of rows and columns for tensors with two or more
// dimensions, whose last two form the matrix, and of entries for other tensors.
func (*adafactor) State() State {
	without := func(dim int) func(p *Param) []int64 {
		return func(p *Param) []int64 {
			n := len(p.Shape)
			if n < 2 {
				return nil
			}
			shape := append([]int64{}, p.Shape...)
			shape[n-dim] = 1
			return shape
		}
	}
	return State{
		Tensors: []TensorState{
			{Name: "rows", Squares: true, Shape: without(1)},
			{Name: "columns", Squares: true, Shape: without(2)},
			{Name: "square", Squares: true, Shape: func(p *Param) []int64 {
				if len(p.Shape) < 2 {
					return p.Shape
				}
				return nil
			}},
		},
		Numbers: []ParamNumber{steps},
	}
}

func (o *adafactor) Update(st *Step) {
	st.Each(func(p *Param) {
		p.Numbers["step"]++
		t, g, n := p.Numbers["step"], st.ClippedGradient(p), math.Sqrt(float64(p.Count))
		eps1 := o.eps1
		if eps1 == 0 {
			eps1 = p.Value.Type().Epsilon()
		}
		norm := p.Value.Dot(p.Value)
		if decay := st.Rate(p) * p.WeightDecay; decay != 0 {
			p.Value.ScaleInPlace(1 - decay)
		}
		w := math.Pow(t, -o.power)
		var v Tensor
		if r, c := p.State["rows"], p.State["columns"]; r != nil {
			r.Set(r.Mix(1-w, g.Square().Mean(-1), w))
			c.Set(c.Mix(1-w, g.Square().Mean(-2), w))
			v = r.MatMul(c).Div(r.Mean(-2).AtLeast(eps1))
		} else {
			s := p.State["square"]
			s.Set(s.Mix(1-w, g.Square(), w))
			v = s
		}
		u := g.Div(v.AtLeast(eps1 * eps1).Sqrt())
		alpha := norm.Sqrt().Scale(1 / n).AtLeast(o.eps2).Scale(min(st.Rate(p), 1/math.Sqrt(t)))
		p.Value.AddInPlace(u.Mul(alpha.Div(u.Dot(u).Sqrt().Scale(1 / (n * o.d)).AtLeast(1)).Scale(-1)))
	})
	st.Info.EffectiveLR = st.LR
}
