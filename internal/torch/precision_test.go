package torch_test

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// TestBFloat16IsNearAndKeepsFloat32: products differ by bfloat16's rounding, one
// part in 256, and no more; losses, gradients and weights stay float32.
func TestBFloat16IsNearAndKeepsFloat32(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(5, 0, 0); err != nil {
			return err
		}
		leaf := func(shape ...int64) *ts.Tensor {
			p := s.Empty(shape, gotch.Float, gotch.CPU)
			s.UniformInPlace(p, -0.5, 0.5)
			s.RequireGrad(p, true)
			return p
		}
		x, up, down, out := leaf(40, 16), leaf(64, 16), leaf(16, 64), leaf(50, 16)
		targets := torch.FromSlice(s, make([]int64, 40), 40)
		var losses [2]float64
		var gradients [2][]float64
		for i, low := range []bool{false, true} {
			var loss torch.Loss
			run := func() {
				h := s.MLP(x, torch.Branch{}, torch.Affine{Weight: up}, nil, torch.Affine{Weight: down})
				loss = s.CrossEntropy(h, out, nil, targets, torch.CrossEntropyOptions{ChunkBytes: 3000})
			}
			if low {
				s.BFloat16(gotch.CPU, run)
			} else {
				run()
			}
			s.Backward(loss.Mean)
			losses[i] = loss.Nats
			for _, p := range []*ts.Tensor{x, up, down, out} {
				g := s.Grad(p)
				if g != nil && g.DType() != gotch.Float {
					t.Errorf("a gradient is %s", torch.Describe(g))
				}
				gradients[i] = append(gradients[i], torch.ToSlice[float64](s, g)...)
				s.ClearGrad(p)
			}
		}
		if !s.OK() {
			return s.Err()
		}
		if losses[0] == losses[1] || math.Abs(losses[1]/losses[0]-1) > 5e-3 {
			t.Errorf("loss %v in bfloat16, %v in float32", losses[1], losses[0])
		}
		apart, size := 0.0, 0.0
		for i, g := range gradients[0] {
			apart += (g - gradients[1][i]) * (g - gradients[1][i])
			size += g * g
		}
		if math.Sqrt(apart/size) > 2e-2 {
			t.Errorf("gradients are apart by %.4f of their length", math.Sqrt(apart/size))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Evaluation after a step in TF32 is in float32 again.
func TestTF32EndsWithTheStep(t *testing.T) {
	within := false
	torch.TF32(func() { within = torch.AllowsTF32() })
	if !within || torch.AllowsTF32() {
		t.Errorf("TF32 is on within a step: %v, and after it: %v", within, torch.AllowsTF32())
	}
}

// lowAndFull computes f in both precisions and returns the distance of values and of each
// leaf's gradient, relative to the length of the float32 result.
func lowAndFull(t *testing.T, f form, shapes ...[]int64) {
	t.Helper()
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(7, 0, 0); err != nil {
			return err
		}
		var leaves []*ts.Tensor
		for _, shape := range shapes {
			leaf := s.Empty(shape, gotch.Float, gotch.CPU)
			s.NormalInPlace(leaf, 0, 0.5)
			s.RequireGrad(leaf, true)
			leaves = append(leaves, leaf)
		}
		var results [2][][]float64
		for k := range results {
			var y *ts.Tensor
			if k == 0 {
				y = f(s, leaves)
			} else {
				s.BFloat16(gotch.CPU, func() { y = f(s, leaves) })
			}
			if y.DType() != gotch.Float {
				t.Errorf("the result is %s", torch.Describe(y))
			}
			weights := make([]float32, torch.Count(y))
			for i := range weights {
				weights[i] = float32(math.Sin(float64(i + 1)))
			}
			s.Backward(s.Sum(s.Mul(y, torch.FromSlice(s, weights, torch.Shape(y)...))))
			results[k] = append(results[k], torch.ToSlice[float64](s, y))
			for _, leaf := range leaves {
				g := s.Grad(leaf)
				if g.DType() != gotch.Float {
					t.Errorf("a gradient is %s", torch.Describe(g))
				}
				results[k] = append(results[k], torch.ToSlice[float64](s, g))
				s.ClearGrad(leaf)
			}
		}
		if !s.OK() {
			return s.Err()
		}
		for i, full := range results[0] {
			apart, size := 0.0, 0.0
			for j, want := range full {
				apart += (results[1][i][j] - want) * (results[1][i][j] - want)
				size += want * want
			}
			if distance := math.Sqrt(apart / size); !(distance <= 3e-2) || i == 0 && distance == 0 {
				t.Errorf("shapes %v: tensor %d of value and gradients is apart by %.4f of its length", shapes, i, distance)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("shapes %v: %v", shapes, err)
	}
}

// TestBFloat16OperatorsAgreeWithFloat32: branches with both norms and alone, with biases and
// without, gated and not, and contexts of one and of several blocks.
func TestBFloat16OperatorsAgreeWithFloat32(t *testing.T) {
	const heads, eps = 2, 1e-5
	for _, x := range [][]int64{{1, 1, 32}, {3, 17, 32}, {2, 70, 64}, {1, 200, 128}} {
		d, hidden := x[2], 3*x[2]
		vector, up, down := []int64{d}, []int64{hidden, d}, []int64{d, hidden}
		gainOf := func(s *torch.Scope, g *ts.Tensor) *ts.Tensor { return s.Shift(s.Scale(g, 0.2), 1) }
		small := func(s *torch.Scope, w *ts.Tensor) *ts.Tensor { return s.Scale(w, 2/math.Sqrt(float64(d))) }
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.MLP(l[0], torch.Branch{Gain: gainOf(s, l[1]), Shift: l[2], Eps: eps},
				torch.Affine{Weight: small(s, l[3]), Bias: l[4]}, nil, torch.Affine{Weight: small(s, l[5]), Bias: l[6]})
		}, x, vector, vector, up, []int64{hidden}, down, vector)
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			gate := torch.Affine{Weight: small(s, l[3]), Bias: l[4]}
			return s.MLP(l[0], torch.Branch{Gain: gainOf(s, l[1]), Eps: eps},
				torch.Affine{Weight: small(s, l[2])}, &gate, torch.Affine{Weight: small(s, l[5])})
		}, x, vector, up, up, []int64{hidden}, down)
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.MLP(l[0], torch.Branch{}, torch.Affine{Weight: small(s, l[1])}, nil, torch.Affine{Weight: small(s, l[2])})
		}, x, up, down)
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.SelfAttention(l[0], torch.Branch{Gain: gainOf(s, l[1]), Shift: l[2], Eps: eps},
				torch.Affine{Weight: small(s, l[3]), Bias: l[4]}, torch.Affine{Weight: small(s, l[5]), Bias: l[6]}, heads, torch.AttentionOptions{})
		}, x, vector, vector, []int64{3 * d, d}, []int64{3 * d}, []int64{d, d}, vector)
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.SelfAttention(l[0], torch.Branch{}, torch.Affine{Weight: small(s, l[1])}, torch.Affine{Weight: small(s, l[2])}, heads, torch.AttentionOptions{})
		}, x, []int64{3 * d, d}, []int64{d, d})
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.SelfAttention(l[0], torch.Branch{}, torch.Affine{Weight: small(s, l[1])}, torch.Affine{Weight: small(s, l[2])}, heads,
				torch.AttentionOptions{First: documents(s, x[0], 0, x[1])})
		}, x, []int64{3 * d, d}, []int64{d, d})
	}
	// The norm of a product, as of queries and keys: its result has the product's precision.
	for _, shifted := range []bool{false, true} {
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			product, shift := s.Linear(l[0], l[1], nil), l[3]
			if !shifted {
				shift = nil
			}
			y := s.Norm(product, l[2], shift, eps)
			if y != nil && y.DType() != product.DType() {
				t.Errorf("the norm of %s is %s", torch.Describe(product), torch.Describe(y))
			}
			if !shifted {
				y = s.Add(y, l[3])
			}
			return s.To(y, gotch.Float, gotch.CPU)
		}, []int64{40, 32}, []int64{16, 32}, []int64{16}, []int64{16})
	}
	// Recurrent layers make their products in bfloat16 on a CPU with tiles alone, but what
	// follows them does so everywhere.
	for _, x := range [][]int64{{1, 1, 32}, {5, 4, 24}, {12, 7, 40}} {
		in, n := x[2], int64(36)
		state := []int64{x[1], n}
		after := func(s *torch.Scope, y, w *ts.Tensor) *ts.Tensor {
			return s.To(s.Linear(y, w, nil), gotch.Float, gotch.CPU)
		}
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			y, _, c := s.LSTM(l[0], l[1], l[2], torch.RNNWeights{InputHidden: l[3], HiddenHidden: l[4], InputBias: l[5], HiddenBias: l[6]})
			return after(s, s.Add(y, c), l[7])
		}, x, state, state, []int64{4 * n, in}, []int64{4 * n, n}, []int64{4 * n}, []int64{4 * n}, []int64{16, n})
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			y, _ := s.GRU(l[0], l[1], torch.RNNWeights{InputHidden: s.Scale(l[2], 0.5), HiddenHidden: s.Scale(l[3], 0.5), InputBias: l[4], HiddenBias: l[5]})
			return after(s, y, l[6])
		}, x, state, []int64{3 * n, in}, []int64{3 * n, n}, []int64{3 * n}, []int64{3 * n}, []int64{16, n})
	}
	for _, chunk := range []int64{0, 5000} {
		lowAndFull(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			ids := make([]int64, 60)
			for i := range ids {
				ids[i] = int64(i*7%301) - 1 // the first does not count
			}
			loss := s.CrossEntropy(l[0], l[1], l[2], torch.FromSlice(s, ids, 60), torch.CrossEntropyOptions{ChunkBytes: chunk})
			return s.Reshape(loss.Mean, 1)
		}, []int64{60, 32}, []int64{301, 32}, []int64{301})
	}
}

// In bfloat16 the loss is that of rounded states and weights, with float32 logits. Rounding
// the gradient of the logits, one part in 512 at most, moves the gradients of states and
// weights by less than that; the bias's is not rounded. With many words and a CPU with
// tiles the loss is made in blocks of words, which rounds the bias's too: the sizes make
// several blocks, chunks and groups of tokens, none of them even.
func TestBFloat16LossRoundsFactorsAlone(t *testing.T) {
	for _, c := range []struct{ chunk, tokens, width, words int64 }{
		{0, 60, 32, 301}, {5000, 60, 32, 301}, {0, 60, 34, 1025}, {0, 701, 66, 2051}, {1, 701, 66, 2051},
	} {
		err := torch.Do(func(s *torch.Scope) error {
			if err := torch.Seed(3, 0, 0); err != nil {
				return err
			}
			ids := make([]int64, c.tokens)
			for i := range ids {
				ids[i] = int64(i)*7%c.words - 1 // the first does not count
			}
			var exact, rounded []*ts.Tensor
			for i, shape := range [][]int64{{c.tokens, c.width}, {c.words, c.width}, {c.words}} {
				x := s.Empty(shape, gotch.Float, gotch.CPU)
				s.NormalInPlace(x, 0, 0.5)
				y := s.Scale(x, 1)
				if i < 2 {
					y = s.To(s.To(x, gotch.BFloat16, gotch.CPU), gotch.Float, gotch.CPU)
				}
				exact, rounded = append(exact, x), append(rounded, y)
			}
			loss := func(of []*ts.Tensor) torch.Loss {
				for _, x := range of {
					s.RequireGrad(x, true)
				}
				return s.CrossEntropy(of[0], of[1], of[2], torch.FromSlice(s, ids, c.tokens), torch.CrossEntropyOptions{ChunkBytes: c.chunk})
			}
			want, got := loss(rounded), torch.Loss{}
			s.BFloat16(gotch.CPU, func() { got = loss(exact) })
			s.Backward(want.Mean)
			s.Backward(got.Mean)
			if !s.OK() {
				return s.Err()
			}
			if math.Abs(got.Nats/want.Nats-1) > 1e-6 {
				t.Errorf("%+v: loss %v, want %v", c, got.Nats, want.Nats)
			}
			ofBias := 1e-6
			if c.words > 1000 {
				ofBias = 1. / 512
			}
			for i, limit := range []float64{1. / 512, 1. / 512, ofBias} {
				a, b := torch.ToSlice[float64](s, s.Grad(rounded[i])), torch.ToSlice[float64](s, s.Grad(exact[i]))
				apart, size := 0.0, 0.0
				for j := range a {
					apart += (a[j] - b[j]) * (a[j] - b[j])
					size += a[j] * a[j]
				}
				if distance := math.Sqrt(apart / size); !(distance <= limit) {
					t.Errorf("%+v: gradient %d is apart by %.6f of its length, want %.6f at most", c, i, distance, limit)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
