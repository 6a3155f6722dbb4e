package torch_test

import (
	"math"
	"math/bits"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// mathWidth is wide enough for full vectors and odd enough for a remainder.
const mathWidth = 131

// throughCell sends x through one LSTM cell whose other gates are held open, so
// that its new state is f(x) alone: tanh by gate g, the logistic function by i.
func throughCell(t *testing.T, gate int64, x []float32) []float32 {
	t.Helper()
	var out []float32
	err := torch.Do(func(s *torch.Scope) error {
		n := int64(mathWidth)
		rows := (int64(len(x)) + n - 1) / n
		padded := make([]float32, rows*n)
		copy(padded, x)
		weight := make([]float32, 4*n*n) // identity for the gate, 0 elsewhere
		for j := range n {
			weight[(gate*n+j)*n+j] = 1
		}
		bias := make([]float32, 4*n)
		for j := range bias {
			bias[j] = [4]float32{100, -100, 100, 100}[int64(j)/n] // i and g at 1, f at 0
			if int64(j)/n == gate {
				bias[j] = 0
			}
		}
		zeros := func(shape ...int64) *ts.Tensor { return s.Zeros(shape, gotch.Float, gotch.CPU) }
		_, _, c := s.LSTM(torch.FromSlice(s, padded, 1, rows, n), zeros(rows, n), zeros(rows, n), torch.RNNWeights{
			InputHidden: torch.FromSlice(s, weight, 4*n, n), HiddenHidden: zeros(4*n, n),
			InputBias: torch.FromSlice(s, bias, 4*n), HiddenBias: zeros(4 * n),
		})
		out = torch.ToSlice[float32](s, c)
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	return out[:len(x)]
}

// ulps returns the difference between got and want, in units in the last place
// of want.
func ulps(got float32, want float64) float64 {
	nearest := float32(want)
	unit := float64(math.Nextafter32(float32(math.Abs(float64(nearest))), math.MaxFloat32)) - math.Abs(float64(nearest))
	return math.Abs(float64(got)-want) / unit
}

// sweep gives numbers of both signs and all magnitudes up to bound.
func sweep(bound float64) []float32 {
	var x []float32
	for v := 1e-6; v < bound; v *= 1.0003 {
		x = append(x, float32(v), float32(-v))
	}
	for v := -bound; v <= bound; v += bound / 20011 {
		x = append(x, float32(v))
	}
	return append(x, 0, 0.625, -0.625, 0.62499994, -0.62499994)
}

func TestMathErrors(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for _, f := range []struct {
		name  string
		gate  int64
		f     func(float64) float64
		bound float64 // of x; beyond it only the limits are held
		ulps  float64
	}{
		{"tanh", 2, math.Tanh, 20, 4},
		{"sigmoid", 0, sigmoid, 80, 4},
	} {
		x := sweep(f.bound)
		worst, at := 0.0, float32(0)
		for i, got := range throughCell(t, f.gate, x) {
			if off := ulps(got, f.f(float64(x[i]))); !(off <= worst) {
				worst, at = off, x[i]
			}
		}
		t.Logf("%s: at most %.2f units in the last place, at %g", f.name, worst, at)
		if !(worst <= f.ulps) {
			t.Errorf("%s(%g) is %.2f units in the last place off, want at most %g", f.name, at, worst, f.ulps)
		}
		for _, x := range []float32{1e2, -1e2, 1e30, -1e30} {
			got := throughCell(t, f.gate, []float32{x})[0]
			if math.Abs(float64(got)-f.f(float64(x))) > 1e-37 {
				t.Errorf("%s(%g) = %g, want %g", f.name, x, got, f.f(float64(x)))
			}
		}
		if got := throughCell(t, f.gate, []float32{float32(math.NaN())})[0]; got == got {
			t.Errorf("%s(NaN) = %g", f.name, got)
		}
	}
}

// With weights 1 and 0 and target 1 the gradient of a hidden state x is the
// probability e^x / (1 + e^x), so it shows the softmax's exp, for x <= 0.
func TestSoftmaxErrors(t *testing.T) {
	worst, at := 0.0, float32(0)
	err := torch.Do(func(s *torch.Scope) error {
		var x []float32
		for _, v := range sweep(70) { // e^-70 / n is still a normal float32
			if v < 0 {
				x = append(x, v)
			}
		}
		// One row a number, logits x*1 and x*0, a power of two of rows.
		n := 1 << (bits.Len(uint(len(x))) - 1)
		x = x[:n]
		hidden := torch.FromSlice(s, x, int64(n), 1)
		s.RequireGrad(hidden, true)
		targets := make([]int64, n)
		for i := range targets {
			targets[i] = 1
		}
		l := s.CrossEntropy(hidden, torch.FromSlice(s, []float32{1, 0}, 2, 1), nil, torch.FromSlice(s, targets, int64(n)), torch.CrossEntropyOptions{})
		s.Backward(l.Mean)
		for i, g := range torch.ToSlice[float32](s, s.Grad(hidden)) {
			e := math.Exp(float64(x[i]))
			if off := ulps(g*float32(n), e/(1+e)); !(off <= worst) {
				worst, at = off, x[i]
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("softmax: at most %.2f units in the last place, at %g", worst, at)
	if !(worst <= 5) {
		t.Errorf("softmax of (%g, 0) is %.2f units in the last place off", at, worst)
	}
}
