package torch_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// live returns the number of tensor handles that are not freed.
func live() int { return len(ts.ExistingTensors) }

func TestWrongShapesNameTheOperator(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		a := s.Zeros([]int64{2, 3}, gotch.Float, gotch.CPU)
		b := s.Zeros([]int64{4, 5}, gotch.Float, gotch.CPU)
		c := s.Tanh(s.MatMul(a, b)) // a no-op after the error
		if c != nil {
			t.Error("an operator ran after the error")
		}
		s.Zeros([]int64{1}, gotch.Float, gotch.CPU)
		return nil
	})
	var op *torch.OpError
	if !errors.As(err, &op) || op.Op != "matmul" {
		t.Fatalf("error %v, want an OpError of matmul", err)
	}
	const want = "matmul(float32[2, 3], float32[4, 5]): mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"
	if err.Error() != want {
		t.Errorf("error\n%s\nwant\n%s", err, want)
	}
}

func TestScopeFreesOnEveryPath(t *testing.T) {
	boom := errors.New("boom")
	paths := map[string]func(s *torch.Scope) error{
		"return":   func(s *torch.Scope) error { return nil },
		"error":    func(s *torch.Scope) error { return boom },
		"operator": func(s *torch.Scope) error { s.Reshape(s.Zeros([]int64{4}, gotch.Float, gotch.CPU), 3); return nil },
		"panic":    func(s *torch.Scope) error { panic(boom) },
	}
	for name, end := range paths {
		t.Run(name, func(t *testing.T) {
			before, scalars := live(), len(ts.ExistingScalars)
			func() {
				defer func() { _ = recover() }()
				_ = torch.Do(func(s *torch.Scope) error {
					x := s.Scale(s.Ones([]int64{10}, gotch.Float, gotch.CPU), 3)
					s.NoGrad(func() { s.Square(x) })
					return end(s)
				})
			}()
			if n := live() - before; n != 0 {
				t.Errorf("%d tensors are left", n)
			}
			if n := len(ts.ExistingScalars) - scalars; n != 0 {
				t.Errorf("%d scalars are left", n)
			}
		})
	}
}

func TestKeepOutlivesTheScope(t *testing.T) {
	before := live()
	var kept *ts.Tensor
	err := torch.Do(func(s *torch.Scope) error {
		kept = s.Keep(s.Ones([]int64{3}, gotch.Float, gotch.CPU))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := live() - before; n != 1 {
		t.Errorf("%d tensors are left, want the kept one", n)
	}
	if err := kept.Drop(); err != nil {
		t.Fatal(err)
	}
}

func TestNoGradIsRestoredAfterAPanic(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		func() {
			defer func() { _ = recover() }()
			s.NoGrad(func() { panic("boom") })
		}()
		w := s.Ones([]int64{2}, gotch.Float, gotch.CPU)
		s.RequireGrad(w, true)
		s.Backward(s.Sum(s.Square(w)))
		if !torch.HasGrad(w) {
			t.Error("gradients are still off")
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestOutOfMemoryTellsTheSize(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		s.Zeros([]int64{1 << 20, 1 << 30}, gotch.Float, gotch.CPU)
		return nil
	})
	var oom *torch.OutOfMemoryError
	if !errors.As(err, &oom) || oom.Bytes != 1<<52 {
		t.Fatalf("error %v, want an OutOfMemoryError of 4 PiB", err)
	}
}

func TestSlicesRoundTrip(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		x := torch.FromSlice(s, []float32{1, 2, 3, 4, 5, 6}, 2, 3)
		got := torch.ToSlice[float64](s, s.Transpose(x, 0, 1))
		want := []float64{1, 4, 2, 5, 3, 6}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("element %d is %g, want %g", i, got[i], want[i])
			}
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestSliceMustFitItsShape(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		torch.FromSlice(s, []int64{1, 2}, 3)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "2 values for shape [3]") {
		t.Errorf("error %v", err)
	}
}

func TestSeedDependsOnSeedStepAndStreamAlone(t *testing.T) {
	draw := func(seed uint64, step, stream int64) float64 {
		var v float64
		err := torch.Do(func(s *torch.Scope) error {
			if err := torch.Seed(seed, step, stream); err != nil {
				return err
			}
			x := s.Zeros([]int64{1}, gotch.Double, gotch.CPU)
			s.UniformInPlace(x, 0, 1)
			v = s.Item(x)
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	first := draw(1, 5, 0)
	if again := draw(1, 5, 0); again != first {
		t.Errorf("drew %v, then %v", first, again)
	}
	for _, other := range []float64{draw(2, 5, 0), draw(1, 6, 0), draw(1, 5, 1)} {
		if other == first {
			t.Errorf("another seed, step or stream drew the same %v", other)
		}
	}
}

// TestTrainingStepsKeepMemoryFlat fails on the published gotch: its in-place
// operators leak the storage, and every operator leaks a slot of 32 bytes.
func TestTrainingStepsKeepMemoryFlat(t *testing.T) {
	const warm, steps = 1000, 10_000
	err := torch.Do(func(s *torch.Scope) error {
		w := s.Keep(s.Zeros([]int64{64, 64}, gotch.Float, gotch.CPU))
		defer func() { _ = w.Drop() }()
		s.RequireGrad(w, true)
		before := 0
		for step := range warm + steps {
			if step == warm {
				before = resident(t)
			}
			err := torch.Do(func(s *torch.Scope) error {
				x := s.Ones([]int64{32, 64}, gotch.Float, gotch.CPU)
				loss := s.Mean(s.Square(s.Shift(s.MatMul(x, w), -1)))
				s.Backward(loss)
				s.NoGrad(func() {
					g := s.Grad(w)
					s.ScaleInPlace(g, -0.01)
					s.AddInPlace(w, g)
				})
				s.ClearGrad(w)
				return s.Err()
			})
			if err != nil {
				return err
			}
		}
		if after := resident(t); float64(after) > 1.05*float64(before) {
			t.Errorf("resident memory went from %d to %d bytes over %d steps", before, after, steps)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// resident returns this process's resident memory in bytes.
func resident(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}

func BenchmarkOperator(b *testing.B) {
	err := torch.Do(func(s *torch.Scope) error {
		x := s.Keep(s.Ones([]int64{4}, gotch.Float, gotch.CPU))
		defer func() { _ = x.Drop() }()
		for b.Loop() {
			s.Add(x, x)
			s.Close()
		}
		return s.Err()
	})
	if err != nil {
		b.Fatal(err)
	}
}
