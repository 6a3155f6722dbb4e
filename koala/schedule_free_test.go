package koala

import (
	"testing"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/koala/spec"
)

func TestScheduleFreeAdamW(t *testing.T) {
	replay{values: func(c referenceCase, v setting.Values) {
		v["step_power"], v["lr_power"] = c.Hyper["r"], c.Hyper["weight_lr_power"]
	}}.run(t, spec.ScheduleFreeAdamW)
}
