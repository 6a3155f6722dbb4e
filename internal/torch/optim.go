package torch

// #include "native/koala_native.h"
import "C"

import (
	"github.com/sugarme/gotch/ts"
)

// A Kernel is one fused pass over parameters and their optimizer state on the
// CPU. native/optim.cpp has the formulas.
type Kernel int

// Kernels that sum, and kernels that write.
const (
	KernelSquares      Kernel = C.KOALA_SQUARES
	KernelMoments      Kernel = C.KOALA_MOMENTS
	KernelProducts     Kernel = C.KOALA_PRODUCTS
	KernelAllProducts  Kernel = C.KOALA_ALL_PRODUCTS
	KernelDistance     Kernel = C.KOALA_DISTANCE
	KernelScaledSquare Kernel = C.KOALA_SCALED_SQUARE

	KernelAXPBY      Kernel = C.KOALA_AXPBY
	KernelShift      Kernel = C.KOALA_SHIFT
	KernelMomentum   Kernel = C.KOALA_MOMENTUM
	KernelVelocity   Kernel = C.KOALA_VELOCITY
	KernelCovariance Kernel = C.KOALA_COVARIANCE
	KernelScaled     Kernel = C.KOALA_SCALED
	KernelAveraged   Kernel = C.KOALA_AVERAGED
)

// LaneSums is how many sums a pass can yield for one parameter.
const LaneSums = C.KOALA_SUMS

// A Lane is one parameter in a pass: the parameter, its gradient, up to two
// tensors of state (nil where the kernel has no use for them), the coefficients
// that go in and the sums that come out.
type Lane struct {
	P, G, A, B *ts.Tensor
	K          [8]float64
	Sum        [LaneSums]float64
}

// Fusable reports whether kernels take p: float32 or float64, on the CPU, its
// elements without gaps.
func Fusable(p *ts.Tensor) bool { return C.koala_fusable(handle(p)) != 0 }

// LaidOutLike returns t where its elements lie as p's do, else a copy that does.
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

// RunKernel runs one pass over all lanes, whose parameters are of one type and
// fusable, and fills in their sums.
func (s *Scope) RunKernel(k Kernel, lanes []*Lane) {
	if s.err != nil || len(lanes) == 0 {
		return
	}
	raw := make([]C.koala_lane, len(lanes))
	for i, l := range lanes {
		raw[i].p, raw[i].g, raw[i].a, raw[i].b = handle(l.P), handle(l.G), handle(l.A), handle(l.B)
		for j, v := range l.K {
			raw[i].k[j] = C.double(v)
		}
	}
	if !s.native("optimizer step", func() C.int { return C.koala_run_kernel(C.int(k), &raw[0], C.int(len(raw))) }) {
		return
	}
	for i, l := range lanes {
		for j := range l.Sum {
			l.Sum[j] = float64(raw[i].sum[j])
		}
	}
}
