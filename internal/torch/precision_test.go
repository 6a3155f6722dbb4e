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
