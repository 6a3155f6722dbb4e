package torch

// #include "native/koala_native.h"
import "C"

import (
	"fmt"

	"github.com/sugarme/gotch/ts"
)

// A Watch adds the gradients of parameters up over a group. One that is eager does so
// in buckets, each as soon as a backward pass has made all of it, while the pass goes
// on (Li et al. 2020, "PyTorch Distributed", section 3.2).
type Watch struct {
	Buckets []Bucket

	group  *Group
	handle C.koala_watch // of an eager one
	begun  int           // buckets' sums, by the latest pass
}

// Watch begins to watch parameters, the same in all processes of the group, on its
// device.
func (g *Group) Watch(params []*ts.Tensor, eager bool) (*Watch, error) {
	w := &Watch{group: g}
	all := int64(0)
	for _, p := range params {
		all += Count(p)
	}
	least := all
	if eager {
		least = max(leastBucket, all/mostBuckets)
	}
	if err := w.begin(params, least, eager); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *Watch) begin(params []*ts.Tensor, least int64, eager bool) error {
	err := Do(func(s *Scope) error {
		s.NoGrad(func() { w.Buckets = newBuckets(s, params, least, w.group.device) })
		return s.Err()
	})
	if err != nil || !eager {
		return err
	}
	var flats, watched, parts []C.koala_tensor
	var counts []C.int
	for _, b := range w.Buckets {
		flats, counts = append(flats, handle(b.Flat)), append(counts, C.int(len(b.Params)))
		for i, p := range b.Params {
			watched, parts = append(watched, handle(p)), append(parts, handle(b.Parts[i]))
		}
	}
	err = inThread(func() C.int {
		return C.koala_watch_open(w.group.handle, C.int(len(flats)), &flats[0], &counts[0], &watched[0], &parts[0], &w.handle)
	})
	if err != nil {
		return fmt.Errorf("watch the gradients: %w", err)
	}
	return nil
}

// Arm says that the next backward pass is the step's last.
func (w *Watch) Arm() {
	if w.handle != nil {
		C.koala_watch_arm(w.handle)
	}
}

// Sum leaves the sums of the gradients in the buckets, and adds other tensors up
// beside. Zeros stand for the gradients of parameters that the pass did not come to.
// It gives up as [Group.Sum] does.
func (w *Watch) Sum(stop <-chan struct{}, others ...*ts.Tensor) error {
	works := make([]C.koala_work, len(w.Buckets))
	count := C.int(0)
	if w.handle != nil {
		if err := inThread(func() C.int { return C.koala_watch_take(w.handle, &works[0], &count) }); err != nil {
			return fmt.Errorf("sum over the processes: %w", err)
		}
	}
	w.begun = int(count)
	var late []*ts.Tensor
	err := Do(func(s *Scope) error {
		for _, b := range w.Buckets[w.begun:] {
			s.NoGrad(func() { b.Fill(s) })
			late = append(late, b.Flat)
		}
		return s.Err()
	})
	if err != nil {
		return err // the run ends, and with it what is under way
	}
	return w.group.finish(stop, works[:w.begun], append(late, others...))
}

// Close ends the watch and frees the buckets.
func (w *Watch) Close() {
	if w.handle != nil {
		C.koala_watch_close(w.handle)
	}
	for _, b := range w.Buckets {
		b.drop()
	}
}
