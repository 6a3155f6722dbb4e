package koala

import (
	"math"
	"testing"

	"github.com/koala-lm/koala-lm/koala/spec"
)

// The reference is the definition in numpy. Its cases with other forms of n2, of the
// innovation and of orthogonalization were measured and are not built.
func TestKoalaK(t *testing.T) {
	replay{
		least: 2,
		skip: func(c referenceCase) bool {
			return c.Hyper["orthogonal"] != "newton-schulz" || c.Hyper["n2"] != "frobenius" || c.Hyper["innovation"] != "signed"
		},
		check: func(t *testing.T, c referenceCase, at int, opt Optimizer) {
			state := stateOf(t, opt).Scalars
			for _, key := range []string{"sigma", "r"} {
				if want := c.Scalars[at][key]; math.Abs(state[key]-want) > 1e-12 {
					t.Errorf("%s is %v, recorded %v", key, state[key], want)
				}
			}
		},
	}.run(t, spec.KoalaK)
}
