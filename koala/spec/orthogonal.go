package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// A block is a matrix in a parameter: the whole of it, or one of the matrices that
// share it, such as queries or a gate.
type block struct {
	p            *Param
	dim          int64 // along which the parameter is cut
	from, length int64
	rows, cols   int64
}

// isMatrix reports whether p consists of matrices: it is a two-dimensional weight,
// but not an embedding or an output layer.
func (p *Param) isMatrix() bool {
	return p.Role == Matrix && len(p.Shape) == 2 && min(p.Shape[0], p.Shape[1]) > 1
}

// shapeUnlessMatrix is the shape of a state tensor that only parameters other than
// matrices have.
func (p *Param) shapeUnlessMatrix() []int64 {
	if p.isMatrix() {
		return nil
	}
	return p.Shape
}

// blocks returns the matrices of p.
func (p *Param) blocks() []block {
	parts, dim := p.Parts, int64(p.PartsDim)
	if len(parts) == 0 {
		parts, dim = p.Shape[:1], 0
	}
	list := make([]block, len(parts))
	from := int64(0)
	for i, length := range parts {
		b := block{p: p, dim: dim, from: from, length: length, rows: length, cols: p.Shape[1]}
		if dim == 1 {
			b.rows, b.cols = p.Shape[0], length
		}
		list[i] = b
		from += length
	}
	return list
}

// split sorts the step's parameters into matrices and the rest.
func (st *Step) split() (matrices, rest []*Param) {
	for _, p := range st.Params {
		if p.isMatrix() {
			matrices = append(matrices, p)
		} else {
			rest = append(rest, p)
		}
	}
	return matrices, rest
}

func blocksOf(params []*Param) []block {
	var list []block
	for _, p := range params {
		list = append(list, p.blocks()...)
	}
	return list
}

// of returns the block's part of a tensor with the parameter's shape. The part
// shares storage.
func (b block) of(t Tensor) Tensor {
	if b.length == b.p.Shape[b.dim] {
		return t
	}
	return t.Narrow(b.dim, b.from, b.length)
}

type blockArgs struct{ Dim, From, Length float64 }

// blockSquares returns |g|^2 of each block, and adds them up to the parameters' "gg".
func blockSquares(st *Step, blocks []block) []float64 {
	params, args := make([]*Param, len(blocks)), make([]blockArgs, len(blocks))
	for i, b := range blocks {
		params[i], args[i] = b.p, blockArgs{Dim: float64(b.dim), From: float64(b.from), Length: float64(b.length)}
		b.p.Sums["gg"] = 0
	}
	s := newSweep("block_squares", params, args)
	s.Sums = func(i int) Sums {
		g := blocks[i].of(blocks[i].p.Gradient)
		return Sums{"gg": g.Dot(g)}
	}
	squares := make([]float64, len(blocks))
	for i, sums := range st.Machine.Run(s) {
		squares[i] = sums["gg"]
		blocks[i].p.Sums["gg"] += squares[i]
	}
	return squares
}

// larger and smaller of the block's two sizes.
func (b block) larger() float64  { return float64(max(b.rows, b.cols)) }
func (b block) smaller() float64 { return float64(min(b.rows, b.cols)) }

// newtonSchulz makes matrices orthogonal: of M = U S V^T it returns U V^T,
// approximately. It iterates (Jordan et al. 2024, Muon)
//
//	X <- a X + (b X X^T + c (X X^T)^2) X,  X from M/|M|
//
// which brings all singular values near 1: into [0.7, 1.2] after five iterations
// with Muon's coefficients, which trade exactness for speed.
type newtonSchulz struct {
	a, b, c  float64
	steps    int
	bfloat16 bool // iterate float32 matrices in bfloat16 on devices that are faster with it

	kernel   string // of the step
	momentum string // name of the state tensor
}

func newNewtonSchulz(v setting.Values, kernel, momentum string) newtonSchulz {
	return newtonSchulz{
		a: v.Float("ns_a"), b: v.Float("ns_b"), c: v.Float("ns_c"), steps: int(v.Int("ns_steps")), bfloat16: v.Bool("ns_bfloat16"),
		kernel: kernel, momentum: momentum,
	}
}

// newtonSchulzSettings have Muon's values as defaults.
func newtonSchulzSettings() []setting.Declaration {
	return []setting.Declaration{
		hidden(hyper("ns_steps", "Newton-Schulz iterations", setting.AtLeast(1), always(5))),
		hidden(hyper("ns_a", "their first coefficient", setting.AnyReal, always(3.4445))),
		hidden(hyper("ns_b", "their second", setting.AnyReal, always(-4.775))),
		hidden(hyper("ns_c", "their third", setting.AnyReal, always(2.0315))),
		hidden(hyper("ns_bfloat16", "iterate in bfloat16 on devices that are faster with it", setting.Bool{}, always(true))),
	}
}

// minNorm is the smallest norm by which a matrix is divided, as in Muon.
const minNorm = 1e-7

// batchElements bounds the number of elements of a batch of iterations, so that they
// stay in the cache.
const batchElements = 4 << 20

// A matrixStep moves a block along the orthogonal factor of its momentum.
type matrixStep struct {
	block
	orthogonalArgs
}

// orthogonalArgs are the arguments of
//
//	m = Momentum m + Gradient g
//	M = OfMomentum m + OfGradient g = U S V^T
//	p = Keep p - Rate U V^T
type orthogonalArgs struct {
	Dim, From, Length      float64 // of the block
	Momentum, Gradient     float64
	OfMomentum, OfGradient float64
	Keep, Rate             float64
	A, B, C, Steps         float64 // of the iterations
	LeastNorm              float64
	Bfloat16               float64 // not 0: iterate in it where the processor is faster with it
}

// step moves blocks along U V^T of their momenta, which keep the share beta and look
// ahead with nesterov. scales gives each block's Keep and Rate.
func (o newtonSchulz) step(st *Step, blocks []block, beta float64, nesterov bool, scales func(b block) (keep, rate float64)) {
	params, args := make([]*Param, len(blocks)), make([]orthogonalArgs, len(blocks))
	for i, b := range blocks {
		a := orthogonalArgs{
			Dim: float64(b.dim), From: float64(b.from), Length: float64(b.length),
			Momentum: beta, Gradient: (1 - beta) * st.Clip, OfMomentum: 1,
			A: o.a, B: o.b, C: o.c, Steps: float64(o.steps), LeastNorm: minNorm,
		}
		if nesterov {
			a.OfMomentum, a.OfGradient = a.Momentum, a.Gradient
		}
		if o.bfloat16 {
			a.Bfloat16 = 1
		}
		a.Keep, a.Rate = scales(b)
		params[i], args[i] = b.p, a
	}
	s := newSweep(o.kernel, params, args)
	s.Together = func(which []int) {
		steps := make([]matrixStep, len(which))
		for j, i := range which {
			steps[j] = matrixStep{blocks[i], args[i]}
		}
		o.together(st, steps)
	}
	st.Machine.Run(s)
}

// together makes the steps with operators, for many matrices of one shape at a time.
func (o newtonSchulz) together(st *Step, steps []matrixStep) {
	type shape struct{ smaller, larger int64 }
	var order []shape
	alike := map[shape][]matrixStep{}
	for _, b := range steps {
		s := shape{min(b.rows, b.cols), max(b.rows, b.cols)}
		if alike[s] == nil {
			order = append(order, s)
		}
		alike[s] = append(alike[s], b)
	}
	for _, s := range order {
		list, most := alike[s], max(1, int(batchElements/(s.smaller*s.larger)))
		for len(list) > 0 {
			batch := list[:min(most, len(list))]
			list = list[len(batch):]
			st.Machine.Within(func() {
				wide := make([]Tensor, len(batch)) // no more rows than columns
				for i, b := range batch {
					m, g := b.of(b.p.State[o.momentum]), b.of(b.p.Gradient)
					m.Set(m.Mix(b.Momentum, g, b.Gradient))
					if wide[i] = m.Mix(b.OfMomentum, g, b.OfGradient); b.rows > b.cols {
						wide[i] = wide[i].T()
					}
				}
				x := o.iterate(st, wide[0].Stack(wide[1:]...))
				for i, b := range batch {
					uv := x.At(int64(i))
					if b.rows > b.cols {
						uv = uv.T()
					}
					p := b.of(b.p.Value)
					p.ScaleInPlace(b.Keep)
					p.AddInPlace(uv.Scale(-b.Rate))
				}
			})
		}
	}
}

// iterate orthogonalizes a batch of matrices [k, m, n], m <= n.
func (o newtonSchulz) iterate(st *Step, m Tensor) Tensor {
	x := m.Div(m.Norm(1, 2).AtLeast(minNorm))
	if o.bfloat16 && m.Type() == Float32 && st.Machine.FastBFloat16() {
		x = x.To(BFloat16)
	}
	for range o.steps {
		xx := x.MatMul(x.T())
		x = x.Mix(o.a, xx.Mix(o.b, xx.MatMul(xx), o.c).MatMul(x), 1)
	}
	return x.Like(m)
}

// adamSize is the factor 0.2 sqrt(max(m, n)) that gives an orthogonal m x n matrix
// the root mean square 0.2, which Adam's steps have (Liu et al. 2025).
func (b block) adamSize() float64 { return 0.2 * math.Sqrt(b.larger()) }
