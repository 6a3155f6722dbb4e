package koala

import (
	"math"
	"testing"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// The reference is the definition in numpy. Its cases with other forms of n2, of the
// innovation and of orthogonalization were measured and are not built.
func TestKoalaK(t *testing.T) {
	replay{
		least: 8,
		skip: func(c referenceCase) bool {
			return c.Hyper["orthogonal"] != "newton-schulz" || c.Hyper["n2"] != "frobenius" || c.Hyper["innovation"] != "signed"
		},
		// In bfloat16 the rounding depends on the processor.
		values: func(_ referenceCase, v setting.Values) { v["ns_bfloat16"] = false },
		check: func(t *testing.T, c referenceCase, at int, opt Optimizer) {
			tolerance := 1e-12
			if c.DType == "float32" {
				tolerance = 1e-6
			}
			state := stateOf(t, opt).Scalars
			for _, key := range []string{"sigma", "r"} {
				if want := c.Scalars[at][key]; !(math.Abs(state[key]-want) <= tolerance) {
					t.Errorf("%s is %v, recorded %v", key, state[key], want)
				}
			}
		},
	}.run(t, spec.KoalaK)
}
