package koala

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// KOALA-D against its formulas in plain Go.
func TestKoalaD(t *testing.T) {
	forms(t, func(t *testing.T, operators bool) {
		const decay = 0.05
		o := defaults(spec.KoalaD)
		var inputs oracleInputs
		if !readOracle(t, "testdata/oracle/inputs.json", &inputs) {
			t.Fatal("no inputs")
		}
		var params []*ts.Tensor
		var p, m, v [][]float64
		var n []float64 // steps of each tensor
		for i, shape := range inputs.Shapes {
			params = append(params, newParam(t, gotch.Double, inputs.Init[i], shape...))
			size := len(inputs.Init[i])
			p, m, v, n = append(p, append([]float64{}, inputs.Init[i]...)), append(m, make([]float64, size)), append(v, make([]float64, size)), append(n, 0)
		}
		opt := newOptimizer(t, spec.KoalaD, []Group{{Params: Params(params...), WeightDecay: decay}}, o)
		useOperators(opt, operators)
		sigma, q, alphaR := o.Float("sigma"), o.Float("q"), o.Float("alpha_r")
		lr, beta1, beta2, eps := o.Float("lr"), o.Float("beta1"), o.Float("beta2"), o.Float("eps")
		r := 0.0
		for k, in := range inputs.Sets["B"] {
			if err := opt.Predict(); err != nil {
				t.Fatal(err)
			}
			for i := range params {
				setGrad(t, params[i], in.Grads[i])
			}
			info, err := opt.Update(Measurement{Loss: in.Loss, MeanSquare: in.LossVar})
			if err != nil {
				t.Fatal(err)
			}

			sigma += q
			if r == 0 {
				r = in.LossVar
			} else {
				r = alphaR*r + (1-alphaR)*in.LossVar
			}
			n2 := 0.0
			d := make([][]float64, len(p))
			for i, g := range in.Grads {
				square := 0.0
				for _, x := range g {
					square += x * x
				}
				if math.Sqrt(square) < 1e-9 {
					continue
				}
				n[i]++
				d[i] = make([]float64, len(g))
				for j, x := range g {
					m[i][j] = beta1*m[i][j] + (1-beta1)*x
					v[i][j] = beta2*v[i][j] + (1-beta2)*x*x
					d[i][j] = 1 / (math.Sqrt(v[i][j]/(1-math.Pow(beta2, n[i]))) + eps)
					n2 += x * d[i][j] * x
				}
			}
			s := sigma*n2 + r
			for i := range d {
				for j := range d[i] {
					rate := lr * in.Loss * sigma / s
					p[i][j] = (1-rate*decay)*p[i][j] - rate*d[i][j]*m[i][j]/(1-math.Pow(beta1, n[i]))
				}
			}
			sigma = sigma * r / s
			if math.Abs(info.Sigma-sigma) > 1e-12*sigma {
				t.Errorf("step %d: sigma is %v, want %v", k, info.Sigma, sigma)
			}
			compareAll(t, k, "parameters", params, p, tolerances{params: 1e-12, floor: 1e-3})
		}
	})
}

// With D = 1, which an eps far above all gradients makes of it, and without
// momentum, KOALA-D is KOALA-V.
func TestKoalaDIsKoalaVUnderTheIdentity(t *testing.T) {
	const eps float64 = 1e12
	v, d := defaults(spec.KoalaV), defaults(spec.KoalaD)
	v["r"], d["r"] = 2.0, 2.0
	d["beta1"], d["eps"], d["sigma"], d["q"] = 0.0, eps, v.Float("sigma")*eps, v.Float("q")*eps
	run := func(kind *spec.Kind, o setting.Values) []float64 {
		p := newParam(t, gotch.Double, []float64{1, 2, 3}, 3)
		opt := newOptimizer(t, kind, []Group{{Params: Params(p)}}, o)
		for _, g := range [][]float64{{1, 2, 3}, {-1, 0.5, 0}, {0.1, 0.1, 0.1}} {
			if err := opt.Predict(); err != nil {
				t.Fatal(err)
			}
			setGrad(t, p, g)
			if _, err := opt.Update(Measurement{Loss: 1.5, MeanSquare: 3}); err != nil {
				t.Fatal(err)
			}
		}
		return valuesOf(t, p)
	}
	if e := worst(run(spec.KoalaD, d), run(spec.KoalaV, v), 1); e > 1e-11 {
		t.Errorf("off by %.2g", e)
	}
}
