package spec

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Over 100,000 steps with norms, losses and noise over many orders of magnitude
// KOALA-V's sigma stays positive and KOALA-M's P positive semidefinite.
func TestRecursionsStayPositive(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	magnitude := func(from, to float64) float64 { return math.Pow(10, from+(to-from)*random.Float64()) }
	m := koalaM{p00: 0.1, p11: 0.1, a: 0.9, qw: 0.01, qv: 0.01}
	sigma := 0.1
	for step := range 100_000 {
		if step%1000 == 0 { // other settings, degenerate ones too
			m.a = random.Float64()
			m.qw, m.qv = magnitude(-12, 2), magnitude(-12, 2)
			if step%3000 == 0 {
				m.qw, m.qv, m.a = 0, 0, 1
			}
		}
		n2, r := magnitude(-18, 40), max(minNoise, magnitude(-120, 4))
		sigma += magnitude(-8, 1)
		if sigma = condition(sigma, n2, r); !(sigma > 0) || !finite(sigma) {
			t.Fatalf("step %d: sigma is %v", step, sigma)
		}
		m.propagate()
		m.condition(n2, r)
		if !(m.p00 > 0) || m.p11 < 0 || m.p01*m.p01 > m.p00*m.p11*(1+1e-9) || !finite(m.p00+m.p01+m.p11) {
			t.Fatalf("step %d: P is %v %v %v", step, m.p00, m.p01, m.p11)
		}
	}
}
