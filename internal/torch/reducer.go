package torch

// #include "native/koala_native.h"
import "C"

import (
	"fmt"
	"slices"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// A Reducer all-reduces the gradients of parameters in buckets, as PyTorch's
// DistributedDataParallel does. With overlap it starts a bucket's all-reduce as
// soon as backward has computed the bucket's gradients, while backward still
// computes others (Li et al. 2020, "PyTorch Distributed", section 3.2).
type Reducer struct {
	group   *ProcessGroup
	params  []*ts.Tensor
	buckets []bucket
	handle  C.koala_reducer // nil without overlap
	started int             // buckets that the latest backward pass started
}

// A bucket is a group of parameters whose gradients are all-reduced together. parts
// are views of flat [N] in the parameters' shapes.
type bucket struct {
	flat          *ts.Tensor
	params, parts []*ts.Tensor
}

// Buckets are large and few: each message costs a latency, in which a network could
// send many numbers.
const (
	minBucketSize = 1 << 18 // numbers, 4 bytes each
	maxBuckets    = 16
)

// NewReducer makes a reducer of the gradients of params, on the group's device. All
// ranks pass the same parameters in the same order.
func (g *ProcessGroup) NewReducer(params []*ts.Tensor, overlap bool) (*Reducer, error) {
	size := int64(0)
	for _, p := range params {
		size += Count(p)
	}
	if overlap {
		size = max(minBucketSize, size/maxBuckets)
	}
	return g.newReducer(params, size, overlap)
}

func (g *ProcessGroup) newReducer(params []*ts.Tensor, bucketSize int64, overlap bool) (*Reducer, error) {
	r := &Reducer{group: g, params: params}
	err := Do(func(s *Scope) error {
		s.NoGrad(func() { r.buckets = newBuckets(s, params, bucketSize, g.device) })
		return s.Err()
	})
	if err == nil && overlap {
		err = r.hookGradients()
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// newBuckets allocates buckets of at least size numbers each, except for the last.
// The first bucket starts with the last parameter: parameters are listed in the
// order of their use, so backward computes its gradient first.
func newBuckets(s *Scope, params []*ts.Tensor, size int64, device gotch.Device) []bucket {
	var buckets []bucket
	for rest := params; len(rest) > 0 && s.OK(); {
		from, n := len(rest), int64(0)
		for from > 0 && n < size {
			from--
			n += Count(rest[from])
		}
		b := bucket{flat: s.Keep(s.Zeros([]int64{n}, gotch.Float, device)), params: slices.Clone(rest[from:])}
		slices.Reverse(b.params)
		at := int64(0)
		for _, p := range b.params {
			n := Count(p)
			b.parts = append(b.parts, s.Keep(s.Reshape(s.Narrow(b.flat, 0, at, n), Shape(p)...)))
			at += n
		}
		buckets, rest = append(buckets, b), rest[:from]
	}
	return buckets
}

// hookGradients makes backward start the buckets' all-reduces.
func (r *Reducer) hookGradients() error {
	var flats, params, parts []C.koala_tensor
	var counts []C.int
	for _, b := range r.buckets {
		flats, counts = append(flats, handle(b.flat)), append(counts, C.int(len(b.params)))
		for i, p := range b.params {
			params, parts = append(params, handle(p)), append(parts, handle(b.parts[i]))
		}
	}
	err := inThread(func() C.int {
		return C.koala_reducer_open(r.group.handle, C.int(len(flats)), &flats[0], &counts[0], &params[0], &parts[0], &r.handle)
	})
	if err != nil {
		return fmt.Errorf("reducer: %w", err)
	}
	return nil
}

// PrepareForBackward must be called before the last backward pass of a step, which
// completes the gradients.
func (r *Reducer) PrepareForBackward() {
	if r.handle != nil {
		C.koala_reducer_prepare(r.handle)
	}
}

// Finish replaces the gradients by their sums over the ranks, and returns the sums
// of numbers, which has the same length in all ranks. A parameter without a
// gradient in some ranks counts as zeros there; one without a gradient in any rank
// keeps none. Finish returns ErrGivenUp once stop is closed, as
// [ProcessGroup.AllReduce] does.
func (r *Reducer) Finish(stop <-chan struct{}, numbers []float64) ([]float64, error) {
	works, err := r.startedWorks()
	if err != nil {
		return nil, err
	}
	all := slices.Clone(numbers)
	for _, p := range r.params {
		has := 0.0
		if HasGrad(p) {
			has = 1
		}
		all = append(all, has)
	}
	err = Do(func(s *Scope) error {
		var late []*ts.Tensor
		s.NoGrad(func() {
			for _, b := range r.buckets[r.started:] {
				b.fill(s)
				late = append(late, b.flat)
			}
		})
		beside := s.To(FromSlice(s, all, int64(len(all))), gotch.Double, r.group.device)
		if err := s.Err(); err != nil {
			return err // the run ends, and with it the running all-reduces
		}
		if err := r.group.finish(stop, works, append(late, beside)); err != nil {
			return err
		}
		all = ToSlice[float64](s, beside)
		has := map[*ts.Tensor]bool{}
		for i, p := range r.params {
			has[p] = s.OK() && all[len(numbers)+i] > 0
		}
		for _, b := range r.buckets {
			for i, p := range b.params {
				if has[p] {
					s.SetGrad(p, b.parts[i])
				}
			}
		}
		return s.Err()
	})
	if err != nil {
		return nil, err
	}
	return all[:len(numbers)], nil
}

// startedWorks ends the backward pass and returns the all-reduces that it started,
// one for each of the first r.started buckets.
func (r *Reducer) startedWorks() ([]C.koala_work, error) {
	works := make([]C.koala_work, len(r.buckets))
	count := C.int(0)
	if r.handle != nil {
		if err := inThread(func() C.int { return C.koala_reducer_finish(r.handle, &works[0], &count) }); err != nil {
			return nil, fmt.Errorf("reduce the gradients: %w", err)
		}
	}
	r.started = int(count)
	return works[:r.started], nil
}

// Close frees the buckets. Gradients set by Finish are views of them.
func (r *Reducer) Close() {
	if r.handle != nil {
		C.koala_reducer_close(r.handle)
	}
	for _, b := range r.buckets {
		b.drop()
	}
}

// fill copies the gradients into the parts, with zeros for a missing one.
func (b bucket) fill(s *Scope) {
	for i, p := range b.params {
		if g := s.Grad(p); g != nil {
			s.CopyInto(b.parts[i], g)
		} else {
			s.Zero(b.parts[i])
		}
	}
}

func (b bucket) drop() {
	for _, t := range append(b.parts, b.flat) {
		if t != nil { // an allocation may have failed
			_ = t.Drop() // freeing has no error to report
		}
	}
}
