package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestRMSprop(t *testing.T) {
	replay{values: func(c referenceCase, v setting.Values) { v["beta2"] = c.Hyper["alpha"] }}.run(t, spec.RMSprop)
}
