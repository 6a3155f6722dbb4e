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
	host    []int64    // targets, on the host
}

// toDevice transposes a batch that has the other order, such as random windows for a
// recurrent model.
func toDevice(s *torch.Scope, b data.Batch, timeMajor bool, device gotch.Device) tensors {
	shape := []int64{int64(b.B), int64(b.T)}
	if b.TimeMajor {
		shape[0], shape[1] = shape[1], shape[0]
	}
	ids, targets := b.Inputs, b.Targets
	if b.TimeMajor != timeMajor {
		ids, targets = transposed(ids, shape), transposed(targets, shape)
		shape[0], shape[1] = shape[1], shape[0]
	}
	return tensors{
		ids:     s.Upload(torch.FromSlice(s, ids, shape...), device),
		targets: s.Upload(torch.FromSlice(s, targets, int64(len(targets))), device),
		host:    targets,
	}
}

// transposed returns the transpose of a matrix of the given shape.
func transposed(values []int64, shape []int64) []int64 {
	rows, columns := int(shape[0]), int(shape[1])
	out := make([]int64, len(values))
	for i := range rows {
		for j := range columns {
			out[j*rows+i] = values[i*columns+j]
		}
	}
	return out
}
