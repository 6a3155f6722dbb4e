package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// SOAP is Adam in the eigenbasis of Shampoo's factors (Vyas et al. 2024). For a
// matrix with gradient G it keeps
//
//	L <- s L + (1 - s) G G^T,  R <- s R + (1 - s) G^T G
//	M <- beta1 M + (1 - beta1) G,  V <- beta2 V + (1 - beta2) (Q_L^T G Q_R)^2
//	p <- p - lr Q_L (Q_L^T M Q_R / (sqrt(V) + eps)) Q_R^T
//
// with Adam's bias corrections, and then p <- (1 - lr wd) p. The bases Q_L and Q_R
// are the factors' eigenvectors at the first step, which moves nothing, and every
// precondition_frequency steps one power iteration and a QR bring them up to date.
// A side longer than max_precondition_dim, and every side of a tensor that has not
// two dimensions, keeps the identity: that is Adam.
var SOAP = register(Kind{
	Name: "soap", Rank: 11, DecoupledDecay: true,
	About: "Adam in the eigenbasis of Shampoo's factors (Vyas et al. 2024)",
	Hyper: []setting.Declaration{
		lr(always(3e-3)), weightDecay(always(0.01)), usualClip(),
		share("beta1", "memory of the gradient's mean", always(0.95)),
		share("beta2", "memory of the gradient's mean square", always(0.95)),
		hyper("shampoo_beta", "memory of the factors; same is beta2", setting.FloatOr{Word: "same", Numbers: setting.Float{Min: 0, Max: 1, OpenMin: true, OpenMax: true}}, always("same")),
		hyper("precondition_frequency", "steps between two updates of the bases", setting.AtLeast(1), always(10)),
		hyper("max_precondition_dim", "longest side of a matrix that has a basis", setting.AtLeast(1), always(10000)),
		hidden(hyper("correct_bias", "Adam's bias corrections", setting.Bool{}, always(true))),
		hidden(hyper("normalize_gradient", "give every step the root mean square 1", setting.Bool{}, always(false))),
		eps(1e-8),
	},
	Published: setting.Values{"clip": 0},
	Temporary: func(v setting.Values, p *Param) int64 {
		largest := int64(0)
		for _, side := range p.Shape {
			if len(p.Shape) == 2 && side <= v.Int("max_precondition_dim") {
				largest = max(largest, side*side)
			}
		}
		return max(4*p.Count, 2*p.Count+3*largest) // the step, or a new basis
	},
	New: func(v setting.Values) Rule {
		o := &soap{
			beta1: v.Float("beta1"), beta2: v.Float("beta2"), shampooBeta: v.Float("shampoo_beta"), eps: v.Float("eps"),
			frequency: v.Int("precondition_frequency"), largest: v.Int("max_precondition_dim"),
			correctBias: v.Bool("correct_bias"), normalize: v.Bool("normalize_gradient"),
		}
		if o.shampooBeta == 0 {
			o.shampooBeta = o.beta2
		}
		return o
	},
})

type soap struct {
	baseline
	beta1, beta2, shampooBeta, eps float64
	frequency, largest             int64
	correctBias, normalize         bool
}

func (o *soap) State() State {
	side := func(dim int) func(p *Param) []int64 {
		return func(p *Param) []int64 {
			if len(p.Shape) != 2 || p.Count == 0 || p.Shape[dim] > o.largest {
				return nil
			}
			return []int64{p.Shape[dim], p.Shape[dim]}
		}
	}
	return State{
		Tensors: []TensorState{
			{Name: "mean"}, {Name: "square", Squares: true},
			{Name: "left", Shape: side(0)}, {Name: "left_basis", Shape: side(0)},
			{Name: "right", Shape: side(1)}, {Name: "right_basis", Shape: side(1)},
		},
		Numbers: []ParamNumber{steps},
	}
}

func (o *soap) Update(st *Step) {
	st.Each(func(p *Param) {
		g, rate, t := st.ClippedGradient(p), st.Rate(p), p.Numbers["step"]
		p.Numbers["step"]++
		if t == 0 {
			o.updateFactors(p, g)
			o.startBases(p)
			return
		}
		m, v := p.State["mean"], p.State["square"]
		m.Set(m.Mix(o.beta1, g, 1-o.beta1))
		v.Set(v.Mix(o.beta2, project(p, g).Square(), 1-o.beta2))
		d := projectBack(p, project(p, m).Div(v.Sqrt().Shift(o.eps)))
		if o.normalize {
			d = d.Div(d.Square().Reshape(-1).Mean(0).Sqrt().Shift(o.eps))
		}
		size := rate
		if o.correctBias {
			c1, c2 := corrections(o.beta1, o.beta2, t)
			size *= math.Sqrt(c2) / c1
		}
		p.Value.AddInPlace(d.Scale(-size))
		p.Value.ScaleInPlace(1 - rate*p.WeightDecay)
		o.updateFactors(p, g)
		if int64(t)%o.frequency == 0 {
			o.updateBases(p)
		}
	})
	st.Info.EffectiveLR = st.LR
}

func (o *soap) updateFactors(p *Param, g Tensor) {
	if l := p.State["left"]; l != nil {
		l.Set(l.Mix(o.shampooBeta, g.MatMul(g.T()), 1-o.shampooBeta))
	}
	if r := p.State["right"]; r != nil {
		r.Set(r.Mix(o.shampooBeta, g.T().MatMul(g), 1-o.shampooBeta))
	}
}

// project is Q_L^T x Q_R.
func project(p *Param, x Tensor) Tensor {
	if q := p.State["left_basis"]; q != nil {
		x = q.T().MatMul(x)
	}
	if q := p.State["right_basis"]; q != nil {
		x = x.MatMul(q)
	}
	return x
}

// projectBack is Q_L x Q_R^T.
func projectBack(p *Param, x Tensor) Tensor {
	if q := p.State["left_basis"]; q != nil {
		x = q.MatMul(x)
	}
	if q := p.State["right_basis"]; q != nil {
		x = x.MatMul(q.T())
	}
	return x
}

// startBases takes the factors' eigenvectors by falling eigenvalues.
func (o *soap) startBases(p *Param) {
	for _, side := range []string{"left", "right"} {
		if factor := p.State[side]; factor != nil {
			p.State[side+"_basis"].Set(factor.Eigenvectors())
		}
	}
}

// updateBases sorts the bases by the eigenvalues that they estimate, V with them,
// and makes one power iteration.
func (o *soap) updateBases(p *Param) {
	for dim, side := range []string{"left", "right"} {
		factor, q := p.State[side], p.State[side+"_basis"]
		if factor == nil {
			continue
		}
		power := factor.MatMul(q)
		order := q.Mul(power).Sum(0).Reshape(-1).Descending()
		p.State["square"].Set(p.State["square"].Pick(int64(dim), order))
		q.Set(power.Pick(1, order).QR())
	}
}
