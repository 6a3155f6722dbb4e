package koala

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// settled takes steps along a gradient of norm n until the variance has settled,
// and returns the length of the last step and the change of the variance in it.
func settled(t *testing.T, kind *spec.Kind, o setting.Values, loss, n float64) (length, change float64) {
	t.Helper()
	p := newParam(t, gotch.Double, []float64{0}, 1)
	opt := newOptimizer(t, kind, []Group{{Params: Params(p)}}, o)
	at, sigma := 0.0, 0.0
	for range 600 {
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		setGrad(t, p, []float64{n})
		info, err := opt.Update(Measurement{Loss: loss, MeanSquare: o.Float("r")})
		if err != nil {
			t.Fatal(err)
		}
		now := valuesOf(t, p)[0]
		length, change = at-now, info.Sigma-sigma
		at, sigma = now, info.Sigma
	}
	return length, change
}

// Tests README.md's statements about settings for language models.
func TestSettledSteps(t *testing.T) {
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if !(math.Abs(got/want-1) < tolerance) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	const loss, r = 6, 45
	v := defaults(spec.KoalaV)
	v["r"] = float64(r)
	for _, q := range []float64{1, 10} {
		v["q"] = q
		for _, n := range []float64{0.1, 0.2} {
			got, _ := settled(t, spec.KoalaV, v, loss, n)
			s := q/2 + math.Sqrt(q*q/4+q*r/(n*n))
			near("KOALA-V", got, v.Float("lr")*loss*s*n/(s*n*n+r), 1e-6)
			near("KOALA-V, large R", got, v.Float("lr")*loss/math.Sqrt(r)*math.Sqrt(q), 0.06)
		}
	}
	v["r"] = 1e-9
	got, _ := settled(t, spec.KoalaV, v, loss, 0.2)
	near("KOALA-V, small R", got, v.Float("lr")*loss/0.2, 1e-6)

	m := defaults(spec.KoalaM)
	m["r"], m["qv"] = 1e9, 0.02 // so that nothing is measured
	_, growth := settled(t, spec.KoalaM, m, 1e-6, 1e-3)
	near("KOALA-M's variance a step", growth, m.Float("qv")/((1-m.Float("a"))*(1-m.Float("a"))), 1e-3)
}
