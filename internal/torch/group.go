package torch

// #include <stdlib.h>
// #include "native/koala_native.h"
import "C"

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
)

// A Group is processes that add up tensors over one another: a process group of
// PyTorch's c10d, Gloo between CPUs and NCCL between CUDA devices. All of them
// make the same calls in the same order.
type Group struct {
	handle     C.koala_group
	rank, size int
	device     gotch.Device
}

// GroupOptions say where a process stands in a group.
type GroupOptions struct {
	Rank, Size int
	Device     gotch.Device  // of the tensors
	Address    string        // under which the others reach this process; "" is what the host's name says
	Timeout    time.Duration // for connecting, and for each sum
}

// ErrGivenUp is the error of a call that was told to stop waiting for the others.
var ErrGivenUp = errors.New("no longer waiting for the other processes")

// OpenGroup connects the processes that open it with the same store and size. It
// gives up when stop is closed.
func OpenGroup(stop <-chan struct{}, store *Store, o GroupOptions) (*Group, error) {
	if o.Rank < 0 || o.Rank >= o.Size {
		return nil, fmt.Errorf("process group: rank %d of %d", o.Rank, o.Size)
	}
	type opened struct {
		handle C.koala_group
		err    error
	}
	done := make(chan opened, 1)
	go func() { // which outlives a call that gives up
		var out opened
		out.err = inThread(func() C.int {
			address := C.CString(o.Address)
			defer C.free(unsafe.Pointer(address))
			milliseconds := C.int64_t(o.Timeout.Milliseconds())
			if o.Device.Name == "CUDA" {
				return C.koala_nccl_open(store.handle, C.int(o.Rank), C.int(o.Size), C.int(o.Device.Value), milliseconds, &out.handle)
			}
			return C.koala_gloo_open(store.handle, C.int(o.Rank), C.int(o.Size), address, milliseconds, &out.handle)
		})
		done <- out
	}()
	select {
	case out := <-done:
		if out.err != nil {
			return nil, fmt.Errorf("process group: %w", out.err)
		}
		g := &Group{handle: out.handle, rank: o.Rank, size: o.Size, device: o.Device}
		return g, g.check(stop)
	case <-stop:
		return nil, ErrGivenUp
	}
}

// check adds up what is known beforehand.
func (g *Group) check(stop <-chan struct{}) error {
	return Do(func(s *Scope) error {
		t := s.To(FromSlice(s, []int64{1, int64(g.rank)}, 2), gotch.Int64, g.device)
		if err := s.Err(); err != nil {
			return err
		}
		if err := g.Sum(stop, t); err != nil {
			return err
		}
		got, size := ToSlice[int64](s, t), int64(g.size)
		if s.OK() && (got[0] != size || got[1] != size*(size-1)/2) {
			return fmt.Errorf("process group: %d processes counted one another and came to %d", size, got[0])
		}
		return nil
	})
}

// Rank is this process's number, from 0.
func (g *Group) Rank() int { return g.rank }

// Size is the number of processes.
func (g *Group) Size() int { return g.size }

// CUDA says whether the tensors are on CUDA devices.
func (g *Group) CUDA() bool { return g.device.Name == "CUDA" }

// slice is how long a wait is deaf to being told to stop.
const slice = 200 * time.Millisecond

// Sum adds each tensor up over the processes, in place; all get the same bits. It
// gives up when stop is closed, and then the tensors are not to be used.
func (g *Group) Sum(stop <-chan struct{}, tensors ...*ts.Tensor) error {
	return g.finish(stop, nil, tensors)
}

// finish starts the sums of tensors, and waits for them and for those under way.
func (g *Group) finish(stop <-chan struct{}, works []C.koala_work, tensors []*ts.Tensor) error {
	defer func() {
		for _, w := range works {
			C.koala_work_free(w)
		}
	}()
	for _, t := range tensors {
		var w C.koala_work
		if err := inThread(func() C.int { return C.koala_all_reduce(g.handle, handle(t), &w) }); err != nil {
			return fmt.Errorf("sum over the processes: %w", err)
		}
		works = append(works, w)
	}
	for _, w := range works {
		if err := g.await(stop, w); err != nil {
			return err
		}
	}
	return nil
}

func (g *Group) await(stop <-chan struct{}, w C.koala_work) error {
	cuda := C.int(0)
	if g.CUDA() {
		cuda = 1
	}
	for {
		waiting := false
		err := inThread(func() C.int {
			code := C.koala_work_wait(w, cuda, C.int64_t(slice.Milliseconds()))
			waiting = code == 2
			return code
		})
		if !waiting {
			if err != nil {
				return fmt.Errorf("sum over the processes: %w", err)
			}
			return nil
		}
		select {
		case <-stop:
			return ErrGivenUp
		default:
		}
	}
}

// Close ends the group. It waits for sums that are under way: after an error the
// group is better left to the end of the process.
func (g *Group) Close() { C.koala_group_close(g.handle) }
