package lm_test

import (
	"maps"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// copySnapshot copies a snapshot's tensors, which the trainer only lends.
func copySnapshot(from *lm.Snapshot) *lm.Snapshot {
	to := *from
	err := torch.Do(func(s *torch.Scope) error {
		clone := func(t *ts.Tensor) *ts.Tensor {
			var c *ts.Tensor
			s.NoGrad(func() { c = s.Keep(s.Clone(t)) })
			return c
		}
		to.Weights = nil
		for _, p := range from.Weights {
			p.Tensor = clone(p.Tensor)
			to.Weights = append(to.Weights, p)
		}
		to.Carried = nil
		for _, t := range from.Carried {
			to.Carried = append(to.Carried, clone(t))
		}
		to.Optimizer.Scalars = maps.Clone(from.Optimizer.Scalars)
		to.Optimizer.Ints = maps.Clone(from.Optimizer.Ints)
		to.Optimizer.Tensors = map[string]*ts.Tensor{}
		for name, t := range from.Optimizer.Tensors {
			to.Optimizer.Tensors[name] = clone(t)
		}
		return s.Err()
	})
	if err != nil {
		panic(err)
	}
	return &to
}

// precision is the setting for matrix products in bfloat16 or not.
func precision(bfloat16 bool) string {
	if bfloat16 {
		return spec.BFloat16
	}
	return spec.Float32
}
