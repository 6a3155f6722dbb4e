package spec

import (
	"math"

	"github.com/koala-lm/koala-lm/internal/setting"
)

// KoalaK is KOALA-K, this project's own method: the filter of KOALA-D with a
// Kronecker-factored prior covariance for weight matrices.
//
// A matrix W has the momentum M = U S V^T, the filter's estimate of the gradient of
// the expected loss. A diagonal covariance treats its entries as independent. The
// prior of Shampoo (Gupta et al. 2018) knows that they are not: rows covary by
// M M^T and columns by M^T M,
//
//	P = sigma D,  D = c (M M^T)^(-1/4) (x) (M^T M)^(-1/4),  c = 0.2 sqrt(max(m, n))
//
// with the largest variance along the directions in which the gradients are small.
// The filter's step is along P M, and
//
//	D M = c (M M^T)^(-1/4) M (M^T M)^(-1/4) = c U S^(-1/2) S S^(-1/2) V^T = c U V^T
//
// which Newton-Schulz iterations compute without the factors: Muon's direction is
// KOALA's under this prior, and the filter adds how far to go. c makes the entries
// of the step as large as Adam's. Embeddings, output layers, biases and gains keep
// KOALA-D's D = diag(1/(sqrt(v) + eps)). Then, as ever,
//
//	S = sigma n2 + R,  n2 = sum over all tensors of <G, D G>
//	w <- w - lr (sigma (L - L*)/S) D M
//	sigma <- sigma R/S,  and with each prediction sigma <- sigma + q min(|G|, 1)^k
//
// For a matrix <G, D G> is, with D taken along G itself, c times G's nuclear norm.
// It is at most c sqrt(min(m, n)) |G|. n2 uses this bound: the results are equal
// (study/koala-k.md), and it costs no second iteration. n2 is taken along G and not
// along M, because along M it falls when successive gradients oppose each other, as
// they do where steps are too long, and lengthens them.
//
// A prediction's variance is that of the weights' drift between two measurements. With k = 0,
// as in KOALA-D, it is q D. sigma then comes to rest near sqrt(q R/n2), where the step is
//
//	lr (L - L*)/sqrt(R) sqrt(q/n2) D M
//
// It lengthens as gradients shrink. In a network with norms they shrink as its weights grow,
// so that long steps lead to longer ones. Yet it is steps along noisy gradients that make
// weights drift: the drift's variance goes with |G|^2, and D with 1/|G|. That makes k = 3,
// |G| being the norm of all gradients after clipping. n2 goes with |G| too, so that at rest
// the step goes with |G|^((k - 1)/2): with k = 3 it is proportional to the gradient, as
// steepest descent under a norm is with its dual norm n2 (Bernstein and Newhouse 2024, Old
// Optimizer, New Norm). Longer rates then do less harm, and with k = 5, which no equation
// asks for, still less (study/koala-k.md). A gradient of norm 1 or more adds q with any k; the
// best rate is alike for models whose gradients are clipped there, and grows with the size of
// batches, with which |G| falls.
//
// A matrix's M has Nesterov's look-ahead, beta1 m + (1 - beta1) g. Queries, keys and
// values, a recurrent layer's gates and SwiGLU's halves are matrices of their own.
// Weight decay is decoupled, as KOALA-D's. R starts as the first mean square. sigma
// starts below its later values, so that the first steps, along momenta of few
// gradients, are short; KOALA-K needs no warm-up. Where sigma n2 is above R, the step
// is Polyak's, lr (L - L*)/n2 D M: from a sigma of 1 the first steps of an LSTM are ten
// times the later ones, and its loss does not recover (study/koala-k.md).
var KoalaK = register(Kind{
	Name: "koala-k", Rank: 5, Filter: true, DecoupledDecay: true,
	About:    "Kalman filter with a Kronecker-factored covariance for matrices, diagonal for the rest (this project's own)",
	Averaged: true, // a constant rate leaves noise around the minimum
	Hyper: append([]setting.Declaration{
		lr(byFamily(6, 3)), weightDecay(always(0.1)), usualClip(),
		hyper("sigma", "initial variance of the parameters", setting.Positive, always(0.01)),
		hyper("q", "variance added each step; the step grows with its root", setting.Natural, always(1e-3)),
		hyper("q_power", "q goes with this power of the gradients' norm where that is below 1; 3 makes steps proportional to the gradients, 0 leaves q as it is", setting.Natural, byFamily(0, 5)),
		share("beta1", "memory of the gradient's mean", always(0.9)),
		share("beta2", "memory of the gradient's mean square", byFamily(0.999, 0.99)),
		eps(1e-8),
		hyper("nesterov", "look ahead along the momentum", setting.Bool{}, always(true)),
	}, append(filterSettings(), newtonSchulzSettings()...)...),
	Published: setting.Values{"lr": 1, "weight_decay": 0, "sigma": 1, "beta2": 0.99, "clip": 0, "q_power": 0},
	Temporary: orthogonalTemporary,
	New: func(v setting.Values) Rule {
		return &koalaK{koalaD: newKoalaD(v), power: v.Float("q_power"), nesterov: v.Bool("nesterov"), orthogonal: newNewtonSchulz(v, "koala_k", "mean")}
	},
})

type koalaK struct {
	*koalaD
	orthogonal newtonSchulz
	nesterov   bool
	power      float64 // of n2, with which q grows

	squares []float64 // |G|^2 of the step's blocks
}

func (o *koalaK) State() State {
	s := o.koalaD.State()
	s.Tensors = []TensorState{
		{Name: "mean"},
		{Name: "square", Squares: true, Shape: (*Param).shapeUnlessMatrix},
	}
	return s
}

// Predict does nothing: what it adds to sigma depends on the gradients.
func (o *koalaK) Predict(*Step) {}

// Measure sums the gradients' norms, and keeps those of the blocks.
func (o *koalaK) Measure(st *Step) {
	matrices, rest := st.split()
	squares.Run(st, rest, nil)
	o.squares = blockSquares(st, blocksOf(matrices))
}

func (o *koalaK) Update(st *Step) {
	matrices, rest := st.split()
	blocks := blocksOf(matrices)
	r := o.noise(st)
	n2 := o.normOfMatrices(st, blocks) + o.scaledNorms(st, rest)
	o.sigma += o.drift(st)
	s := o.sigma*n2 + r
	step := st.LR * o.innovation(st) * o.sigma / s
	for _, p := range matrices {
		p.Numbers["step"]++
	}
	o.orthogonal.step(st, blocks, o.beta1, o.nesterov, func(b block) (keep, rate float64) {
		return 1 - step*b.p.LR*b.p.WeightDecay, step * b.p.LR * b.adamSize()
	})
	o.stepDiagonal(st, rest, step)
	st.Info.Gain, st.Info.EffectiveLR = o.sigma*n2/s, math.Abs(step)
	o.sigma = condition(o.sigma, n2, r)
	st.Info.Sigma = o.sigma
}

// normOfMatrices is the sum of c sqrt(min(m, n)) |G| over all blocks.
func (o *koalaK) normOfMatrices(st *Step, blocks []block) float64 {
	n2 := 0.0
	for i, b := range blocks {
		n2 += b.adamSize() * math.Sqrt(b.smaller()) * st.Clip * math.Sqrt(o.squares[i])
	}
	return n2
}

// drift is q min(|G|, 1)^k, the variance that the step's prediction adds.
func (o *koalaK) drift(st *Step) float64 {
	return o.q * math.Pow(min(st.Clip*st.Info.GradNorm, 1), o.power)
}
