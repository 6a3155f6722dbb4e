package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestAdafactor(t *testing.T) {
	replay{values: func(c referenceCase, v setting.Values) {
		eps := c.Hyper["eps"].([]any) // the first is null for the type's precision
		if eps[0] != nil {
			v["eps1"] = eps[0]
		}
		v["eps2"] = eps[1]
		v["beta2_power"] = -c.Hyper["beta2_decay"].(float64)
	}}.run(t, spec.Adafactor)
}
