package lm

import (
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
)

// tensors are a batch on the device.
type tensors struct {
	ids     *ts.Tensor // int64 [T, B] or [B, T]
	targets *ts.Tensor // int64 [N]
}

func toDevice(s *torch.Scope, b data.Batch, device gotch.Device) tensors {
	shape := []int64{int64(b.B), int64(b.T)}
	if b.TimeMajor {
		shape[0], shape[1] = shape[1], shape[0]
	}
	return tensors{
		ids:     s.To(torch.FromSlice(s, b.Inputs, shape...), gotch.Int64, device),
		targets: s.To(torch.FromSlice(s, b.Targets, int64(len(b.Targets))), gotch.Int64, device),
	}
}
