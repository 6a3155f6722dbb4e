package torch

// #include <stdlib.h>
// #include "native/koala_native.h"
import "C"

import (
	"strings"
	"unsafe"

	"github.com/sugarme/gotch/ts"
)

// A Kernel is one fused pass over parameters and their optimizer state on the
// CPU; koala/native/optim.cpp has the formulas. Its names are what the caller has to
// agree with.
type Kernel struct {
	Args  []string  // arguments for each parameter
	Sums  []string  // sums for each parameter
	State [2]string // state tensors; "" for one that it does not use

	number C.int
}

// FindKernel returns the kernel of that name, nil if there is none.
func FindKernel(name string) *Kernel {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	var info C.koala_kernel_info
	number := C.koala_kernel_find(text, &info)
	if number < 0 {
		return nil
	}
	return &Kernel{
		Args: kernelNames(info.args), Sums: kernelNames(info.sums),
		State: [2]string{C.GoString(info.state[0]), C.GoString(info.state[1])}, number: number,
	}
}

func kernelNames(list *C.char) []string {
	if text := C.GoString(list); text != "" {
		return strings.Split(text, ", ")
	}
	return nil
}

// A KernelParam is one parameter in a pass: the parameter, its gradient and its
// state tensors, nil where the kernel does not use one; the arguments that go in,
// and the sums that Run fills in.
type KernelParam struct {
	P, G  *ts.Tensor
	State [2]*ts.Tensor
	Args  []float64
	Sums  []float64
}

// Fusable reports whether kernels take p: float32 or float64, on the CPU, its
// elements without gaps.
func Fusable(p *ts.Tensor) bool { return C.koala_fusable(handle(p)) != 0 }

// LaidOutLike returns t if its elements lie as p's do, else a copy that does.
func (s *Scope) LaidOutLike(p, t *ts.Tensor) *ts.Tensor {
	var out C.koala_tensor
	if !s.native("empty_like", func() C.int { return C.koala_laid_out_like(handle(p), handle(t), &out) }, p, t) {
		return nil
	}
	if out == nil {
		return t
	}
	return s.take(out)
}

// RunKernel runs one pass over all parameters, which are of one type and fusable,
// and fills in their sums.
func (s *Scope) RunKernel(k *Kernel, params []KernelParam) {
	if s.err != nil || len(params) == 0 {
		return
	}
	raw := make([]C.koala_kernel_param, len(params))
	args, sums := make([]float64, 0, len(params)*len(k.Args)+1), make([]float64, len(params)*len(k.Sums)+1)
	for i, p := range params {
		raw[i].p, raw[i].g = handle(p.P), handle(p.G)
		raw[i].state[0], raw[i].state[1] = handle(p.State[0]), handle(p.State[1])
		args = append(args, p.Args...)
	}
	args = append(args, 0) // so that there is a first element to point at
	if !s.native("optimizer step", func() C.int {
		return C.koala_kernel_run(k.number, &raw[0], C.int(len(raw)), (*C.double)(&args[0]), (*C.double)(&sums[0]))
	}) {
		return
	}
	for i := range params {
		params[i].Sums = sums[i*len(k.Sums) : (i+1)*len(k.Sums)]
	}
}
