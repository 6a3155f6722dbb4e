package koala

import (
	"strings"
	"testing"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// PyTorch's Muon iterates in bfloat16, whose rounding depends on the processor: the
// cases in bfloat16 are compared loosely.
func TestMuon(t *testing.T) {
	published := func(c referenceCase) bool { return strings.HasPrefix(c.Note, "as published") }
	replay{
		values: func(c referenceCase, v setting.Values) {
			v["adjust_lr"] = c.Hyper["adjust_lr_fn"]
			coefficients := c.Hyper["ns_coefficients"].([]any)
			v["ns_a"], v["ns_b"], v["ns_c"] = coefficients[0], coefficients[1], coefficients[2]
			delete(v, "eps") // of the iteration
			if betas, ok := c.Hyper["adamw_betas"].([]any); ok {
				v["beta1"], v["beta2"], v["eps"] = betas[0], betas[1], c.Hyper["adamw_eps"]
			}
			v["ns_bfloat16"] = published(c)
		},
		param: func(c referenceCase, p *Param) {
			if len(c.Tensors) == 5 { // every tensor is one matrix
				p.Role, p.Parts = spec.Matrix, nil
			}
		},
		tolerance: func(c referenceCase) float64 {
			switch {
			case published(c):
				return 1e-2
			case c.DType == "float32": // the kernel's iterations are on X X^T
				return 1e-5
			}
			return 0
		},
	}.run(t, spec.Muon)
}
