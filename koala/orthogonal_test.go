package koala

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"
	"golang.org/x/sys/unix"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// orthogonalKinds are the kinds that iterate.
func orthogonalKinds() []*spec.Kind {
	return slices.DeleteFunc(slices.Clone(spec.Kinds()), func(k *spec.Kind) bool { return !k.Has("ns_steps") })
}

// matrices of every form that the kernel treats in its own way: square, wide, tall;
// smaller and larger than its panels; whole, and several in one tensor.
var orthogonalMatrices = []struct {
	rows, columns int64
	parts         []int64
	dim           int
	transposed    bool // in memory
	zero          bool // the gradient
}{
	{rows: 2, columns: 2},
	{rows: 64, columns: 64},
	{rows: 33, columns: 150},
	{rows: 150, columns: 33},
	{rows: 2, columns: 97},
	{rows: 130, columns: 70, transposed: true},
	{rows: 70, columns: 130, transposed: true},
	{rows: 120, columns: 50, parts: []int64{40, 1, 79}},
	{rows: 50, columns: 120, parts: []int64{40, 1, 79}, dim: 1},
	{rows: 60, columns: 90, parts: []int64{30, 30}, transposed: true},
	{rows: 60, columns: 90, parts: []int64{30, 60}, dim: 1, transposed: true},
	{rows: 40, columns: 40, zero: true},
}

// runOrthogonal makes five steps and returns the parameters.
func runOrthogonal(t *testing.T, kind *spec.Kind, dtype gotch.DType, values setting.Values, operators bool, threads int) [][]float64 {
	t.Helper()
	defer torchtest.Threads(t, threads)()
	if err := torch.Seed(1, 2, 3); err != nil {
		t.Fatal(err)
	}
	var params []Param
	defer func() {
		for _, p := range params {
			_ = p.Tensor.Drop()
		}
	}()
	err := torch.Do(func(s *torch.Scope) error {
		for _, m := range orthogonalMatrices {
			p := s.Empty([]int64{m.rows, m.columns}, dtype, gotch.CPU)
			s.NormalInPlace(p, 0, 1)
			if m.transposed {
				p = s.Detach(s.Transpose(s.Clone(s.Contiguous(s.Transpose(p, 0, 1))), 0, 1))
			}
			s.RequireGrad(p, true)
			params = append(params, Param{Tensor: s.Keep(p), Role: spec.Matrix, Parts: m.parts, PartsDim: m.dim})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	opt := newOptimizer(t, kind, []Group{{Params: params, WeightDecay: 0.1}}, values)
	useOperators(opt, operators)
	for range 5 {
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		err := torch.Do(func(s *torch.Scope) error {
			for i, p := range params {
				s.ClearGrad(p.Tensor)
				g := s.Empty(torch.Shape(p.Tensor), dtype, gotch.CPU)
				s.NormalInPlace(g, 0, 0.01)
				if orthogonalMatrices[i].zero {
					s.Fill(g, 0)
				}
				s.BackwardFrom([]*ts.Tensor{p.Tensor}, []*ts.Tensor{g})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := opt.Update(Measurement{Loss: 2, MeanSquare: 5}); err != nil {
			t.Fatal(err)
		}
	}
	var all [][]float64
	for _, p := range params {
		all = append(all, valuesOf(t, p.Tensor))
	}
	return all
}

// The kernel iterates on X X^T, in half of each product; the operators on X, as
// defined. Both agree, and the kernel's bits do not depend on the number of threads:
// with 16 threads they share each matrix.
func TestOrthogonalKernel(t *testing.T) {
	for _, kind := range orthogonalKinds() {
		for dtype, tolerance := range map[gotch.DType]float64{gotch.Float: 2e-5, gotch.Double: 1e-12} {
			for _, nesterov := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/%v/nesterov=%v", kind.Name, dtype, nesterov), func(t *testing.T) {
					values := with(with(defaults(kind), "nesterov", nesterov), "ns_bfloat16", false)
					kernel := runOrthogonal(t, kind, dtype, values, false, 1)
					for i, want := range runOrthogonal(t, kind, dtype, values, true, 1) {
						if e := worst(kernel[i], want, 1); e > tolerance {
							t.Errorf("matrix %d: the forms differ by %.2g", i, e)
						}
					}
					for _, threads := range []int{2, 16} {
						for i, got := range runOrthogonal(t, kind, dtype, values, false, threads) {
							if !slices.Equal(got, kernel[i]) {
								t.Errorf("matrix %d has other bits with %d threads", i, threads)
							}
						}
					}
				})
			}
		}
	}
}

// The kernel's rounding errors do not grow with the iterations: before they are large, it
// returns from X X^T to X.
func TestOrthogonalIterations(t *testing.T) {
	for _, kind := range orthogonalKinds() {
		for _, steps := range []int{1, 2, 6, 12} {
			values := with(with(defaults(kind), "ns_steps", steps), "ns_bfloat16", false)
			kernel := runOrthogonal(t, kind, gotch.Float, values, false, 1)
			for i, want := range runOrthogonal(t, kind, gotch.Float, values, true, 1) {
				if e := worst(kernel[i], want, 1); e > 2e-5 {
					t.Errorf("%s, %d iterations, matrix %d: the forms differ by %.2g", kind, steps, i, e)
				}
			}
		}
	}
}

// In bfloat16, on a processor that is faster with it, steps are nearly as long and in nearly the
// same direction, and their bits do not depend on the number of threads.
func TestOrthogonalBFloat16(t *testing.T) {
	skipWithoutBFloat16(t)
	for _, kind := range orthogonalKinds() {
		for _, steps := range []int{1, 5, 8} {
			t.Run(fmt.Sprintf("%s/%d", kind.Name, steps), func(t *testing.T) {
				run := func(lr float64, bfloat16, operators bool, threads int) [][]float64 {
					values := with(with(with(defaults(kind), "ns_steps", steps), "ns_bfloat16", bfloat16), "lr", lr)
					return runOrthogonal(t, kind, gotch.Float, values, operators, threads)
				}
				lr := defaults(kind).Float("lr")
				still, exact, low, operators := run(1e-30, true, false, 1), run(lr, false, false, 1), run(lr, true, false, 1), run(lr, true, true, 1)
				for i := range low {
					if slices.Equal(low[i], exact[i]) != (orthogonalMatrices[i].zero || smallest(i) < 32) {
						t.Errorf("matrix %d: iterations in bfloat16: %v", i, !slices.Equal(low[i], exact[i]))
					}
					// The operators round X after each iteration, as PyTorch's Muon does.
					if e, theirs := offTrack(still[i], exact[i], low[i]), offTrack(still[i], exact[i], operators[i]); e > 2*theirs+0.02 {
						t.Errorf("matrix %d is off by %.3f of its way, with operators by %.3f", i, e, theirs)
					}
				}
				for _, threads := range []int{2, 16} {
					for i, got := range run(lr, true, false, threads) {
						if !slices.Equal(got, low[i]) {
							t.Errorf("matrix %d has other bits with %d threads", i, threads)
						}
					}
				}
			})
		}
	}
}

// Signals that come while AMX's tiles are in use change no bits: their frames are larger by
// the tiles' 8 kB, on stacks that Go has made, and on those of libtorch's threads.
func TestOrthogonalUnderSignals(t *testing.T) {
	skipWithoutBFloat16(t)
	run := func() [][]float64 { return runOrthogonal(t, spec.Muon, gotch.Float, defaults(spec.Muon), false, 2) }
	want := run()
	done, sent := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-done:
				sent <- n
				return
			default:
			}
			threads, err := os.ReadDir("/proc/self/task")
			if err != nil {
				t.Error(err)
			}
			for _, thread := range threads {
				id, err := strconv.Atoi(thread.Name())
				if err == nil && unix.Tgkill(unix.Getpid(), id, unix.SIGURG) == nil { // what Go preempts goroutines with
					n++
				}
			}
		}
	}()
	for range 20 {
		for i, got := range run() {
			if !slices.Equal(got, want[i]) {
				t.Errorf("matrix %d has other bits", i)
			}
		}
	}
	close(done)
	if n := <-sent; n < 1000 {
		t.Errorf("only %d signals were sent", n)
	}
}

func skipWithoutBFloat16(t *testing.T) {
	t.Helper()
	processor, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		t.Fatal(err)
	}
	if torch.ISA() != "v4" || !torch.FastBFloat16(gotch.CPU) ||
		!strings.Contains(string(processor), "AuthenticAMD") && !strings.Contains(string(processor), "amx_bf16") {
		t.Skip("the processor does not multiply bfloat16 at twice the rate of float32")
	}
}

// smallest is the smaller side of the largest part of a matrix.
func smallest(i int) int64 {
	m := orthogonalMatrices[i]
	sides := []int64{m.rows, m.columns}
	if len(m.parts) > 0 {
		sides[m.dim] = slices.Max(m.parts)
	}
	return slices.Min(sides)
}

// offTrack is |got - want| as a share of |want - from|.
func offTrack(from, want, got []float64) float64 {
	off, way := 0.0, 0.0
	for i := range want {
		off, way = math.Hypot(off, got[i]-want[i]), math.Hypot(way, want[i]-from[i])
	}
	if off == 0 {
		return 0
	}
	return off / way
}
