package torch_test

import (
	"math"
	"testing"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

func TestGELUAgreesWithItsFormula(t *testing.T) {
	value := func(x float64) float64 {
		return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
	}
	slope := func(x float64) float64 {
		u := math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x)
		th := math.Tanh(u)
		return 0.5*(1+th) + 0.5*x*(1-th*th)*math.Sqrt(2/math.Pi)*(1+3*0.044715*x*x)
	}
	x := append(sweep(12), 100, -100, 1e15, -1e15, 1e30, -1e30)
	err := torch.Do(func(s *torch.Scope) error {
		leaf := torch.FromSlice(s, x, int64(len(x)))
		s.RequireGrad(leaf, true)
		y := s.GELU(leaf)
		s.Backward(s.Sum(s.Scale(y, 2)))
		values, slopes := torch.ToSlice[float64](s, y), torch.ToSlice[float64](s, s.Grad(leaf))
		for i, x := range x {
			x := float64(x)
			if want := value(x); math.Abs(values[i]-want) > 1e-6*(0.1+math.Abs(want)) {
				t.Fatalf("gelu(%g) = %g, want %g", x, values[i], want)
			}
			if want := slope(x); math.Abs(x) < 1e3 && math.Abs(slopes[i]/2-want) > 5e-7 {
				t.Fatalf("slope of gelu at %g = %g, want %g", x, slopes[i]/2, want)
			}
			if math.IsNaN(slopes[i]) {
				t.Fatalf("slope of gelu at %g is no number", x)
			}
		}
		nan := s.GELU(torch.FromSlice(s, []float32{float32(math.NaN())}, 1))
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
