package torch_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// form computes something from leaves.
type form func(s *torch.Scope, leaves []*ts.Tensor) *ts.Tensor

// agree compares the values of two forms, and the gradients of leaves of the given shapes.
func agree(t *testing.T, got, want form, shapes ...[]int64) {
	t.Helper()
	err := torch.Do(func(s *torch.Scope) error {
		if err := torch.Seed(3, 0, 0); err != nil {
			return err
		}
		var leaves []*ts.Tensor
		for _, shape := range shapes {
			leaf := s.Empty(shape, gotch.Float, gotch.CPU)
			s.UniformInPlace(leaf, -1, 1)
			s.RequireGrad(leaf, true)
			leaves = append(leaves, leaf)
		}
		var results [2][][]float64 // the value, then each leaf's gradient
		for k, f := range []form{got, want} {
			y := f(s, leaves)
			// A weighted sum, with a different weight for each element.
			weights := make([]float32, torch.Count(y))
			for i := range weights {
				weights[i] = float32(math.Sin(float64(i)))
			}
			s.Backward(s.Sum(s.Mul(y, torch.FromSlice(s, weights, torch.Shape(y)...))))
			results[k] = append(results[k], torch.ToSlice[float64](s, y))
			for _, leaf := range leaves {
				results[k] = append(results[k], torch.ToSlice[float64](s, s.Grad(leaf)))
				s.ClearGrad(leaf)
			}
		}
		if !s.OK() {
			return s.Err()
		}
		// Rounding is relative to the terms of a sum, which are of the size of a tensor's
		// largest numbers. Where all sums cancel, as in the gradient of a softmax over one
		// number, they are of the size of the value.
		for i, want := range results[1] {
			if !slices.ContainsFunc(want, func(w float64) bool { return w != 0 }) {
				want, results[0][i] = append(want, results[1][0]...), append(results[0][i], results[1][0]...)
			}
			near(t, fmt.Sprintf("shapes %v: tensor %d of value and gradients", shapes, i), results[0][i], want, 2e-5)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("shapes %v: %v", shapes, err)
	}
}

// rowMean is the mean over the last dimension, which the result keeps with length 1.
func rowMean(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	return s.Apply("mean", func() (*ts.Tensor, error) { return x.MeanDim([]int64{-1}, true, gotch.Float, false) }, x)
}

func TestNormAgreesWithItsFormula(t *testing.T) {
	for _, rows := range [][]int64{{1, 7}, {3, 5, 33}, {90, 400}} {
		width := rows[len(rows)-1]
		normed := func(s *torch.Scope, x, gain *ts.Tensor) *ts.Tensor {
			return s.Mul(gain, s.Div(x, s.Sqrt(s.Shift(rowMean(s, s.Square(x)), 1e-5))))
		}
		agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor { return s.Norm(l[0], l[1], nil, 1e-5) },
			func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor { return normed(s, l[0], l[1]) }, rows, []int64{width})
		agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor { return s.Norm(l[0], l[1], l[2], 1e-5) },
			func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
				return s.Add(normed(s, s.Sub(l[0], rowMean(s, l[0])), l[1]), l[2])
			}, rows, []int64{width}, []int64{width})
	}
}

func geluByOperators(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
	u := s.Scale(s.Mul(x, s.Shift(s.Scale(s.Square(x), 0.044715), 1)), math.Sqrt(2/math.Pi))
	return s.Scale(s.Mul(x, s.Shift(s.Tanh(u), 1)), 0.5)
}

func TestMLPAgreesWithItsFormula(t *testing.T) {
	const in, hidden = 9, 160
	for _, rows := range [][]int64{{1, in}, {2, 35, in}, {5, 77, in}} { // the last in several chunks
		agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.MLP(l[0], torch.Branch{}, torch.Affine{Weight: l[1], Bias: l[2]}, nil, torch.Affine{Weight: l[3], Bias: l[4]})
		}, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.Linear(geluByOperators(s, s.Linear(l[0], l[1], l[2])), l[3], l[4])
		}, rows, []int64{hidden, in}, []int64{hidden}, []int64{in, hidden}, []int64{in})
		// Transposed storage of the weights.
		turned := func(s *torch.Scope, w *ts.Tensor) torch.Affine { return torch.Affine{Weight: s.Transpose(w, 0, 1)} }
		agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			gate := turned(s, l[2])
			return s.MLP(l[0], torch.Branch{}, turned(s, l[1]), &gate, turned(s, l[3]))
		}, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.MatMul(s.Mul(s.SiLU(s.MatMul(l[0], l[2])), s.MatMul(l[0], l[1])), l[3])
		}, rows, []int64{in, hidden}, []int64{in, hidden}, []int64{hidden, in})
	}
}

// TestGELUOfAnyNumber: through an MLP of weights 1.
func TestGELUOfAnyNumber(t *testing.T) {
	x := append(sweep(12), 100, -100, 1e15, -1e15, 1e30, -1e30)
	err := torch.Do(func(s *torch.Scope) error {
		one := torch.Affine{Weight: s.Ones([]int64{1, 1}, gotch.Float, gotch.CPU)}
		leaf := torch.FromSlice(s, x, int64(len(x)), 1)
		s.RequireGrad(leaf, true)
		y := s.MLP(leaf, torch.Branch{}, one, nil, one)
		s.Backward(s.Sum(s.Scale(y, 2)))
		values, slopes := torch.ToSlice[float64](s, y), torch.ToSlice[float64](s, s.Grad(leaf))
		for i, x := range x {
			x := float64(x)
			u := math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x)
			th := math.Tanh(u)
			if want := 0.5 * x * (1 + th); !(math.Abs(values[i]-want) <= 1e-6*(0.1+math.Abs(want))) {
				t.Fatalf("gelu(%g) = %g, want %g", x, values[i], want)
			}
			slope := 0.5*(1+th) + 0.5*x*(1-th*th)*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x)
			if math.IsNaN(slopes[i]) || math.Abs(x) < 1e3 && math.Abs(slopes[i]/2-slope) > 5e-7 {
				t.Fatalf("slope of gelu at %g = %g, want %g", x, slopes[i]/2, slope)
			}
		}
		nan := s.MLP(torch.FromSlice(s, []float32{float32(math.NaN())}, 1, 1), torch.Branch{}, one, nil, one)
		if got := s.Item(nan); !math.IsNaN(got) {
			t.Errorf("gelu(NaN) = %g", got)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSplitGivesItsGradientsBack(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		a := torch.FromSlice(s, []float32{1, 2, 3, 4, 5, 6}, 2, 3)
		s.RequireGrad(a, true)
		parts := s.Split(a, 1, 1, 2)
		s.Backward(s.Add(s.Sum(s.Square(parts[0])), s.Sum(parts[1])))
		near(t, "gradient", torch.ToSlice[float64](s, s.Grad(a)), []float64{2, 1, 1, 8, 1, 1}, 0)
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	err = torch.Do(func(s *torch.Scope) error {
		parts := s.Split(torch.FromSlice(s, []float32{1, 2}, 2), 0, 1, 2)
		if len(parts) != 2 || parts[0] != (*ts.Tensor)(nil) {
			t.Errorf("parts that do not fit: %v", parts)
		}
		return s.Err()
	})
	if err == nil {
		t.Error("sizes that do not add up were taken")
	}
}

func TestRotaryAgreesWithItsFormula(t *testing.T) {
	const steps, heads, width = 5, 3, 8
	angles := func(s *torch.Scope) (cos, sin *ts.Tensor) {
		c, sn := make([]float32, steps*width/2), make([]float32, steps*width/2)
		for i := range c {
			c[i], sn[i] = float32(math.Cos(float64(i))), float32(math.Sin(float64(i)))
		}
		return torch.FromSlice(s, c, steps, width/2), torch.FromSlice(s, sn, steps, width/2)
	}
	agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
		cos, sin := angles(s)
		return s.Rotary(l[0], cos, sin)
	}, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
		cos, sin := angles(s)
		cos, sin = s.Unsqueeze(cos, 1), s.Unsqueeze(sin, 1)
		a, b := s.Narrow(l[0], 3, 0, width/2), s.Narrow(l[0], 3, width/2, width/2)
		return s.Cat(3, s.Sub(s.Mul(a, cos), s.Mul(b, sin)), s.Add(s.Mul(b, cos), s.Mul(a, sin)))
	}, []int64{2, steps, heads, width})
}

// causal is the formula of causal attention, with q, k and v [B, H, T, W].
func causal(s *torch.Scope, q, k, v *ts.Tensor, from int64, o torch.AttentionOptions) *ts.Tensor {
	shape := torch.Shape(q)
	if !s.OK() {
		return nil
	}
	texts, steps, width, first := shape[0], shape[2], shape[3], []int64(nil)
	if o.First != nil {
		first = torch.ToSlice[int64](s, o.First)
	}
	mask := make([]float32, texts*steps*(from+steps))
	for row := range texts * steps {
		for j, own := int64(0), from+row%steps; j < from+steps; j++ {
			if j > own || first != nil && j < first[row] || o.Window > 0 && j <= own-o.Window {
				mask[row*(from+steps)+j] = float32(math.Inf(-1))
			}
		}
	}
	scores := s.Scale(s.MatMul(q, s.Transpose(k, 2, 3)), 1/math.Sqrt(float64(width)))
	return s.MatMul(s.Softmax(s.Add(scores, torch.FromSlice(s, mask, texts, 1, steps, from+steps))), v)
}

// documents are the first keys of queries that follow from keys: the documents of each
// text have other lengths.
func documents(s *torch.Scope, texts, from, steps int64) *ts.Tensor {
	first := make([]int64, 0, texts*steps)
	for text := range texts {
		for own := from; own < from+steps; own++ {
			first = append(first, own-own%(3+2*text))
		}
	}
	return torch.FromSlice(s, first, texts, steps)
}

func TestAttentionAgreesWithItsFormula(t *testing.T) {
	const heads, width = 4, 8
	for _, steps := range []int64{1, 2, 17, 300} { // 300: several blocks of queries
		for _, from := range []int64{0, 4} {
			for _, groups := range []int64{1, 2, heads} {
				shared := []int64{2, groups, from + steps, width}
				for _, window := range []int64{0, 3, 40} {
					for _, within := range []bool{false, true} {
						options := func(s *torch.Scope) (o torch.AttentionOptions) {
							if o.Window = window; within {
								o.First = documents(s, 2, from, steps)
							}
							return o
						}
						agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
							return s.Attention(l[0], l[1], l[2], from, options(s))
						}, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
							repeat := func(x *ts.Tensor) *ts.Tensor { // each head of keys beside its own queries
								all := make([]*ts.Tensor, 0, heads)
								for h := range int64(heads) {
									all = append(all, s.Select(x, 1, h*groups/heads))
								}
								return s.Stack(1, all...)
							}
							return causal(s, l[0], repeat(l[1]), repeat(l[2]), from, options(s))
						}, []int64{2, heads, steps, width}, shared, shared)
					}
				}
			}
		}
	}
}

// TestSelfAttentionAgreesWithItsFormula: one sequence, several in a chunk, several
// chunks, a context too long for our own kernel, weights too many for it.
func TestSelfAttentionAgreesWithItsFormula(t *testing.T) {
	const heads = 3
	for _, test := range []struct {
		shape  []int64
		within bool // documents
	}{
		{[]int64{1, 1, 24}, false}, {[]int64{2, 17, 24}, false}, {[]int64{9, 40, 24}, false}, {[]int64{1, 260, 24}, false}, {[]int64{2, 9, 258}, false},
		{[]int64{2, 17, 24}, true}, {[]int64{9, 40, 24}, true}, {[]int64{1, 260, 24}, true}, {[]int64{2, 9, 258}, true},
	} {
		shape, width := test.shape, test.shape[2]/heads
		options := func(s *torch.Scope) (o torch.AttentionOptions) {
			if test.within {
				o.First = documents(s, shape[0], 0, shape[1])
			}
			return o
		}
		formula := func(s *torch.Scope, x, in, inBias, out, outBias *ts.Tensor) *ts.Tensor {
			parts := s.Unflatten(s.Linear(x, in, inBias), 2, 3, heads, width)
			part := func(i int64) *ts.Tensor { return s.Transpose(s.Select(parts, 2, i), 1, 2) }
			seen := s.Flatten(s.Transpose(causal(s, part(0), part(1), part(2), 0, options(s)), 1, 2), 2)
			return s.Linear(seen, out, outBias)
		}
		// Small weights keep the softmax away from a single choice.
		small := func(s *torch.Scope, w *ts.Tensor) *ts.Tensor { return s.Scale(w, 0.3) }
		agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.SelfAttention(l[0], torch.Branch{}, torch.Affine{Weight: small(s, l[1]), Bias: l[2]}, torch.Affine{Weight: small(s, l[3]), Bias: l[4]}, heads, options(s))
		}, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return formula(s, l[0], small(s, l[1]), l[2], small(s, l[3]), l[4])
		}, shape, []int64{3 * shape[2], shape[2]}, []int64{3 * shape[2]}, []int64{shape[2], shape[2]}, []int64{shape[2]})
		// Weights stored the other way round, no biases.
		turned := func(s *torch.Scope, w *ts.Tensor) *ts.Tensor { return s.Transpose(small(s, w), 0, 1) }
		agree(t, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return s.SelfAttention(l[0], torch.Branch{}, torch.Affine{Weight: turned(s, l[1])}, torch.Affine{Weight: turned(s, l[2])}, heads, options(s))
		}, func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
			return formula(s, l[0], turned(s, l[1]), nil, turned(s, l[2]), nil)
		}, shape, []int64{shape[2], 3 * shape[2]}, []int64{shape[2], shape[2]})
	}
}

// TestBiasesMustFit: otherwise kernels would read beyond the end of a bias.
func TestBiasesMustFit(t *testing.T) {
	for name, f := range map[string]func(s *torch.Scope, x *ts.Tensor, w, short torch.Affine){
		"mlp":      func(s *torch.Scope, x *ts.Tensor, w, short torch.Affine) { s.MLP(x, torch.Branch{}, w, nil, short) },
		"mlp gate": func(s *torch.Scope, x *ts.Tensor, w, short torch.Affine) { s.MLP(x, torch.Branch{}, w, &short, w) },
		"self_attention": func(s *torch.Scope, x *ts.Tensor, w, short torch.Affine) {
			s.SelfAttention(x, torch.Branch{}, in(s), short, 2, torch.AttentionOptions{})
		},
	} {
		err := torch.Do(func(s *torch.Scope) error {
			zeros := func(shape ...int64) *ts.Tensor { return s.Zeros(shape, gotch.Float, gotch.CPU) }
			f(s, zeros(1, 3, 4), torch.Affine{Weight: zeros(4, 4)}, torch.Affine{Weight: zeros(4, 4), Bias: zeros(3)})
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "a bias of [3] does not fit a weight of [4, 4]") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// in is the first layer of attention over width 4.
func in(s *torch.Scope) torch.Affine {
	return torch.Affine{Weight: s.Zeros([]int64{12, 4}, gotch.Float, gotch.CPU)}
}
