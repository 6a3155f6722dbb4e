package torch_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// Backward runs the function a second time and gives the gradients of its input and of
// the tensors that it uses; a failure on either run is the operator's error.
func TestRecompute(t *testing.T) {
	for name, broken := range map[string]int{"whole": 0, "fails forward": 1, "fails backward": 2} {
		t.Run(name, func(t *testing.T) {
			runs := 0
			var y, dx, dw []float64
			err := torch.Do(func(s *torch.Scope) error {
				x, w := torch.FromSlice(s, []float64{1, 2, 3}, 3), torch.FromSlice(s, []float64{4, 5, 6}, 3)
				s.RequireGrad(x, true)
				s.RequireGrad(w, true)
				out := s.Recompute(x, func(s *torch.Scope, x *ts.Tensor) *ts.Tensor {
					if runs++; runs == broken {
						s.Fail(errors.New("no luck"))
					}
					return s.Mul(s.Mul(x, x), w) // d/dx = 2 x w, d/dw = x^2
				})
				y = torch.ToSlice[float64](s, out)
				s.Backward(s.Sum(out))
				dx, dw = torch.ToSlice[float64](s, s.Grad(x)), torch.ToSlice[float64](s, s.Grad(w))
				return s.Err()
			})
			if broken > 0 {
				if err == nil || !strings.Contains(err.Error(), "no luck") || runs != broken {
					t.Fatalf("after %d runs: %v", runs, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := [][]float64{{4, 20, 54}, {8, 20, 36}, {1, 4, 9}}
			if diff := cmp.Diff(want, [][]float64{y, dx, dw}); diff != "" || runs != 2 {
				t.Errorf("%d runs, y, dx, dw (-want +got):\n%s", runs, diff)
			}
		})
	}
}
