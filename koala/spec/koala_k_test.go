package spec

import "testing"

// The drift is q at the n2 of a gradient of norm 1, grows with its power, and stays finite.
func TestDrift(t *testing.T) {
	const q, u = 0.5, 2 // u = 0.2 sqrt(60 + 40)
	st := &Step{Params: []*Param{{Count: 60}, {Count: 40}}}
	for _, c := range []struct{ power, n2, want float64 }{
		{0, 0, q}, {0, 1e300, q}, {1, u, q}, {1, 3 * u, 3 * q}, {3, 0, 0}, {3, u / 2, q / 8}, {3, 2 * u, 8 * q},
		{5, 2 * u, 32 * q}, {5, 1e300, mostDrift}, {400, 1e3 * u, mostDrift},
	} {
		o := &koalaK{koalaD: &koalaD{q: q}, power: c.power}
		if got := o.drift(st, c.n2); got != c.want {
			t.Errorf("drift at n2 %v with power %v is %v, want %v", c.n2, c.power, got, c.want)
		}
	}
}
