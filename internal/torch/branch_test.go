package torch_test

import (
	"strings"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// TestBranchesAgreeWithTheirFormula: x + f(norm(x)), with both norms, in one chunk and
// in several, for our own kernels and beyond their limits.
func TestBranchesAgreeWithTheirFormula(t *testing.T) {
	const heads, hidden, eps = 2, 40, 1e-5
	for _, shape := range [][]int64{{1, 1, 12}, {2, 17, 12}, {9, 40, 12}, {1, 260, 12}} {
		width := shape[2]
		small := func(s *torch.Scope, w *ts.Tensor) torch.Affine { return torch.Affine{Weight: s.Scale(w, 0.3)} }
		for _, layer := range []bool{true, false} {
			branch := func(l []*ts.Tensor) torch.Branch {
				b := torch.Branch{Gain: l[1], Eps: eps}
				if layer {
					b.Shift = l[2]
				}
				return b
			}
			onto := func(f func(s *torch.Scope, h *ts.Tensor, l []*ts.Tensor) *ts.Tensor) form {
				return func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
					h := l[0]
					if layer {
						h = s.Sub(h, rowMean(s, h))
					}
					h = s.Mul(l[1], s.Div(h, s.Sqrt(s.Shift(rowMean(s, s.Square(h)), eps))))
					if layer {
						h = s.Add(h, l[2])
					}
					return s.Add(l[0], f(s, h, l))
				}
			}
			// RMSNorm has no shift; an extra term gives the shift a gradient.
			also := func(f form) form {
				return func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor { return s.Add(f(s, l), l[2]) }
			}
			norms := [][]int64{shape, {width}, {width}}
			agree(t, also(func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
				return s.MLP(l[0], branch(l), torch.Affine{Weight: l[3], Bias: l[4]}, nil, torch.Affine{Weight: l[5], Bias: l[6]})
			}), also(onto(func(s *torch.Scope, h *ts.Tensor, l []*ts.Tensor) *ts.Tensor {
				return s.Linear(geluByOperators(s, s.Linear(h, l[3], l[4])), l[5], l[6])
			})), append(norms, []int64{hidden, width}, []int64{hidden}, []int64{width, hidden}, []int64{width})...)
			agree(t, also(func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
				gate := torch.Affine{Weight: l[4]}
				return s.MLP(l[0], branch(l), torch.Affine{Weight: l[3]}, &gate, torch.Affine{Weight: l[5]})
			}), also(onto(func(s *torch.Scope, h *ts.Tensor, l []*ts.Tensor) *ts.Tensor {
				return s.Linear(s.Mul(s.SiLU(s.Linear(h, l[4], nil)), s.Linear(h, l[3], nil)), l[5], nil)
			})), append(norms, []int64{hidden, width}, []int64{hidden, width}, []int64{width, hidden})...)
			agree(t, also(func(s *torch.Scope, l []*ts.Tensor) *ts.Tensor {
				return s.SelfAttention(l[0], branch(l), small(s, l[3]), small(s, l[4]), heads, torch.AttentionOptions{})
			}), also(onto(func(s *torch.Scope, h *ts.Tensor, l []*ts.Tensor) *ts.Tensor {
				return s.SelfAttention(h, torch.Branch{}, small(s, l[3]), small(s, l[4]), heads, torch.AttentionOptions{})
			})), append(norms, []int64{3 * width, width}, []int64{width, width})...)
		}
	}
}

// TestBranchDropout: elements of the branch's result are zeroed or scaled by 1/(1-p);
// the residual stream is unchanged.
func TestBranchDropout(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		zero := func(shape ...int64) *ts.Tensor { return s.Zeros(shape, gotch.Float, gotch.CPU) }
		one := func(n int64) *ts.Tensor { return s.Ones([]int64{n}, gotch.Float, gotch.CPU) }
		x := s.Shift(zero(4, 25, 8), 3)
		b := torch.Branch{Gain: one(8), Shift: one(8), Eps: 1e-5, Dropout: 0.25}
		ones := torch.Affine{Weight: zero(8, 8), Bias: one(8)}
		for name, y := range map[string]*ts.Tensor{
			"mlp":            s.MLP(x, b, ones, nil, ones),
			"self_attention": s.SelfAttention(x, b, torch.Affine{Weight: zero(24, 8)}, ones, 2, torch.AttentionOptions{}),
		} {
			kept := 0.0
			for i, v := range torch.ToSlice[float32](s, y) {
				if v != 3 && v != 3+float32(1)/0.75 {
					t.Fatalf("%s: element %d is %v, want 3 or 4.3333", name, i, v)
				}
				if v != 3 {
					kept++
				}
			}
			if share := kept / 800; share < 0.65 || share > 0.85 {
				t.Errorf("%s: %v of the branch is kept, want about 0.75", name, share)
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBranchesMustFit: a norm, or a last layer, of another width is an error.
func TestBranchesMustFit(t *testing.T) {
	for name, f := range map[string]func(s *torch.Scope, x *ts.Tensor, zeros func(...int64) *ts.Tensor){
		"gain": func(s *torch.Scope, x *ts.Tensor, zeros func(...int64) *ts.Tensor) {
			s.MLP(x, torch.Branch{Gain: zeros(3)}, torch.Affine{Weight: zeros(8, 4)}, nil, torch.Affine{Weight: zeros(4, 8)})
		},
		"shift": func(s *torch.Scope, x *ts.Tensor, zeros func(...int64) *ts.Tensor) {
			s.SelfAttention(x, torch.Branch{Gain: zeros(4), Shift: zeros(3)}, in(s), torch.Affine{Weight: zeros(4, 4)}, 2, torch.AttentionOptions{})
		},
		"last layer": func(s *torch.Scope, x *ts.Tensor, zeros func(...int64) *ts.Tensor) {
			s.MLP(x, torch.Branch{Gain: zeros(4)}, torch.Affine{Weight: zeros(8, 4)}, nil, torch.Affine{Weight: zeros(6, 8)})
		},
		"last layer alone": func(s *torch.Scope, x *ts.Tensor, zeros func(...int64) *ts.Tensor) {
			s.MLP(x, torch.Branch{}, torch.Affine{Weight: zeros(8, 4)}, nil, torch.Affine{Weight: zeros(3, 8)})
		},
	} {
		err := torch.Do(func(s *torch.Scope) error {
			zeros := func(shape ...int64) *ts.Tensor { return s.Zeros(shape, gotch.Float, gotch.CPU) }
			f(s, zeros(1, 3, 4), zeros)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), "not fit [1, 3, 4]") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
