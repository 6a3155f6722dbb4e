package koala

import (
	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// A pass goes over the parameters once. It has two forms that do the same: a
// fused kernel for the CPU, and libtorch's operators for one parameter at a time,
// which any device and type has. k are the lane's coefficients.
type pass struct {
	kernel    torch.Kernel
	operators func(s *torch.Scope, l *lane)
	// sums are what a pass sums, after the operators if there are any.
	sums func(s *torch.Scope, l *lane) sumTensors
}

// sumTensors are float64 scalars on a device, by sum; nil for those not taken.
type sumTensors [torch.LaneSums]*ts.Tensor

// run goes over the step's lanes.
func (st *step) run(p pass) {
	fused := map[gotch.DType][]*torch.Lane{}
	var rest []*lane
	for _, l := range st.lanes {
		l.A, l.B = l.a, l.b
		if l.fused && !st.operators {
			fused[l.P.DType()] = append(fused[l.P.DType()], &l.Lane)
		} else {
			rest = append(rest, l)
		}
	}
	for _, dtype := range []gotch.DType{gotch.Float, gotch.Double} {
		st.scope.RunKernel(p.kernel, fused[dtype])
	}
	if p.operators != nil {
		for _, l := range rest {
			p.operators(st.scope, l)
		}
	}
	if p.sums != nil {
		st.collect(p, rest)
	}
}

// collect brings all sums to the host in one transfer.
func (st *step) collect(p pass, lanes []*lane) {
	type place struct {
		l *lane
		i int
	}
	var (
		places  []place
		scalars []*ts.Tensor
	)
	for _, l := range lanes {
		l.Sum = [torch.LaneSums]float64{}
		for i, v := range p.sums(st.scope, l) {
			if v != nil {
				places, scalars = append(places, place{l, i}), append(scalars, v)
			}
		}
	}
	if len(scalars) == 0 || !st.scope.OK() {
		return
	}
	for i, v := range torch.ToSlice[float64](st.scope, st.scope.Stack(0, scalars...)) {
		places[i].l.Sum[places[i].i] = v
	}
}

// dot returns the inner product as a float64 scalar on the tensors' device.
func dot(s *torch.Scope, x, y *ts.Tensor) *ts.Tensor {
	wide := func(t *ts.Tensor) *ts.Tensor {
		return s.Apply("to", func() (*ts.Tensor, error) { return t.Totype(gotch.Double, false) }, t)
	}
	if x == y {
		return s.Sum(s.Square(wide(x)))
	}
	return s.Sum(s.Mul(wide(x), wide(y)))
}

// mix returns x scaled by u plus y scaled by v.
func mix(s *torch.Scope, u float64, x *ts.Tensor, v float64, y *ts.Tensor) *ts.Tensor {
	switch {
	case v == 0:
		return s.Scale(x, u)
	case v == 1:
		return s.Add(s.Scale(x, u), y)
	}
	return s.Add(s.Scale(x, u), s.Scale(y, v))
}

// decayed returns h = k0 g + k1 p, the clipped gradient with its decay.
func decayed(s *torch.Scope, l *lane) *ts.Tensor { return mix(s, l.K[0], l.G, l.K[1], l.P) }

// gradientSums is the first pass of most kinds: |g|^2, and with weight decay g.p
// and |p|^2.
func gradientSums(st *step) {
	if anyDecay(st.params) {
		st.run(moments)
	} else {
		st.run(squares)
	}
}

// squareSums is the first pass of the kinds that have no use for more.
func squareSums(st *step) { st.run(squares) }

var squares = pass{
	kernel: torch.KernelSquares,
	sums: func(s *torch.Scope, l *lane) sumTensors {
		return sumTensors{sumGG: dot(s, l.G, l.G)}
	},
}

var moments = pass{
	kernel: torch.KernelMoments,
	sums: func(s *torch.Scope, l *lane) sumTensors {
		return sumTensors{sumGG: dot(s, l.G, l.G), sumGP: dot(s, l.G, l.P), sumPP: dot(s, l.P, l.P)}
	},
}

func anyDecay(params []*param) bool {
	for _, p := range params {
		if p.decay != 0 {
			return true
		}
	}
	return false
}

// axpby is p = k1 p + k0 g.
var axpby = pass{
	kernel: torch.KernelAXPBY,
	operators: func(s *torch.Scope, l *lane) {
		if l.K[1] != 1 {
			s.ScaleInPlace(l.P, l.K[1])
		}
		s.AddInPlace(l.P, s.Scale(l.G, l.K[0]))
	},
}
