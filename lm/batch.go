package lm

import (
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// tensors hold a batch on the device, in the model's order: [T, B] for recurrent
// ones, [B, T] for Transformers.
type tensors struct {
	ids     *ts.Tensor // int64
	targets *ts.Tensor // int64 [N]
}

// toDevice transposes a batch that has the other order, such as random windows for a
// recurrent model.
func toDevice(s *torch.Scope, b data.Batch, timeMajor bool, device gotch.Device) tensors {
	shape := []int64{int64(b.B), int64(b.T)}
	if b.TimeMajor {
		shape[0], shape[1] = shape[1], shape[0]
	}
	move := func(values []int64) *ts.Tensor {
		t := torch.FromSlice(s, values, shape...)
		if b.TimeMajor != timeMajor {
			t = s.Contiguous(s.Transpose(t, 0, 1))
		}
		return s.To(t, gotch.Int64, device)
	}
	return tensors{ids: move(b.Inputs), targets: s.Reshape(move(b.Targets), -1)}
}
