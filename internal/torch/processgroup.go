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

// A ProcessGroup is c10d's: Gloo between CPUs, NCCL between CUDA devices. All ranks
// make the same calls in the same order.
type ProcessGroup struct {
	handle     C.koala_group
	rank, size int
	device     gotch.Device
}

// ProcessGroupOptions say which rank of a process group this process is.
type ProcessGroupOptions struct {
	Rank, Size int
	Device     gotch.Device  // device of the tensors
	Address    string        // address at which the other ranks reach this one; "" is the address of the host's name
	Timeout    time.Duration // limit for connecting, and for each all-reduce
}

// ErrGivenUp is the error of a call whose stop channel was closed while it waited
// for other ranks.
var ErrGivenUp = errors.New("no longer waiting for the other processes")

// OpenProcessGroup connects the ranks that open a group with the same store and
// size, and returns after a first all-reduce over all of them. It returns
// ErrGivenUp once stop is closed.
func OpenProcessGroup(stop <-chan struct{}, store *KVStore, o ProcessGroupOptions) (*ProcessGroup, error) {
	if o.Rank < 0 || o.Rank >= o.Size {
		return nil, fmt.Errorf("process group: rank %d of %d", o.Rank, o.Size)
	}
	type opened struct {
		handle C.koala_group
		err    error
	}
	done := make(chan opened, 1)
	go func() { // may outlive this call
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
		g := &ProcessGroup{handle: out.handle, rank: o.Rank, size: o.Size, device: o.Device}
		return g, g.check(stop)
	case <-stop:
		return nil, ErrGivenUp
	}
}

// check all-reduces numbers with known sums.
func (g *ProcessGroup) check(stop <-chan struct{}) error {
	return Do(func(s *Scope) error {
		t := s.To(FromSlice(s, []int64{1, int64(g.rank)}, 2), gotch.Int64, g.device)
		if err := s.Err(); err != nil {
			return err
		}
		if err := g.AllReduce(stop, t); err != nil {
			return err
		}
		got, size := ToSlice[int64](s, t), int64(g.size)
		if s.OK() && (got[0] != size || got[1] != size*(size-1)/2) {
			return fmt.Errorf("process group: an all-reduce over %d ranks counted %d", size, got[0])
		}
		return nil
	})
}

// Rank is this process's number, from 0.
func (g *ProcessGroup) Rank() int { return g.rank }

// Size is the number of ranks.
func (g *ProcessGroup) Size() int { return g.size }

// CUDA reports whether the tensors are on CUDA devices.
func (g *ProcessGroup) CUDA() bool { return g.device.Name == "CUDA" }

// pollInterval is the time between two checks of the stop channel.
const pollInterval = 200 * time.Millisecond

// AllReduce replaces each tensor by its sum over the ranks, in place and with the
// same bits in all ranks. It returns ErrGivenUp once stop is closed; the tensors'
// values are then undefined.
func (g *ProcessGroup) AllReduce(stop <-chan struct{}, tensors ...*ts.Tensor) error {
	return g.finish(stop, nil, tensors)
}

// finish all-reduces tensors, and waits for this all-reduce and for works.
func (g *ProcessGroup) finish(stop <-chan struct{}, works []C.koala_work, tensors []*ts.Tensor) error {
	defer func() {
		for _, w := range works {
			C.koala_work_free(w)
		}
	}()
	for _, t := range tensors {
		var w C.koala_work
		if err := inThread(func() C.int { return C.koala_all_reduce(g.handle, handle(t), &w) }); err != nil {
			return fmt.Errorf("all-reduce: %w", err)
		}
		works = append(works, w)
	}
	for _, w := range works {
		if err := g.wait(stop, w); err != nil {
			return err
		}
	}
	return nil
}

func (g *ProcessGroup) wait(stop <-chan struct{}, w C.koala_work) error {
	cuda := C.int(0)
	if g.CUDA() {
		cuda = 1
	}
	for {
		waiting := false
		err := inThread(func() C.int {
			code := C.koala_work_wait(w, cuda, C.int64_t(pollInterval.Milliseconds()))
			waiting = code == 2
			return code
		})
		if !waiting {
			if err != nil {
				return fmt.Errorf("all-reduce: %w", err)
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

// Close ends the group. It waits for running all-reduces. So after an error do not
// call it: the group ends with the process.
func (g *ProcessGroup) Close() { C.koala_group_close(g.handle) }
