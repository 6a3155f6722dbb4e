package spec

import "testing"

// The drift is q where the clipped gradient has a norm of 1 or more, and falls with the norm's power.
func TestDrift(t *testing.T) {
	const q = 0.5
	for _, c := range []struct{ power, norm, clip, want float64 }{
		{0, 0, 1, q}, {0, 1e300, 1, q}, {1, 0.25, 1, q / 4}, {1, 1, 1, q}, {1, 3, 1, q}, {3, 0, 1, 0}, {3, 0.5, 1, q / 8},
		{5, 2, 0.25, q / 32}, {5, 4, 0.25, q}, {5, 1e300, 1, q}, {400, 1e-3, 1, 0},
	} {
		o := &koalaK{koalaD: &koalaD{q: q}, power: c.power}
		st := &Step{Clip: c.clip, Info: StepInfo{GradNorm: c.norm}}
		if got := o.drift(st); got != c.want {
			t.Errorf("drift at |G| %v, clipped by %v, with power %v is %v, want %v", c.norm, c.clip, c.power, got, c.want)
		}
	}
}
