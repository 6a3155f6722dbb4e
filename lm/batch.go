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
	Input
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
	inOrder := func(values []int64) []int64 {
		if b.TimeMajor == timeMajor {
			return values
		}
		return transposed(values, shape)
	}
	out := shape
	if b.TimeMajor != timeMajor {
		out = []int64{shape[1], shape[0]}
	}
	targets := inOrder(b.Targets)
	t := tensors{
		Input:   Input{IDs: s.Upload(torch.FromSlice(s, inOrder(b.Inputs), out...), device)},
		targets: s.Upload(torch.FromSlice(s, targets, int64(len(targets))), device),
		host:    targets,
	}
	if b.First != nil {
		t.First = s.Upload(torch.FromSlice(s, inOrder(b.First), out...), device)
	}
	return t
}

// transposed returns the transpose of a matrix of the given shape.
func transposed[T any](values []T, shape []int64) []T {
	rows, columns := int(shape[0]), int(shape[1])
	out := make([]T, len(values))
	for i := range rows {
		for j := range columns {
			out[j*rows+i] = values[i*columns+j]
		}
	}
	return out
}
