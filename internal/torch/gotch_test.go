package torch_test

import (
	"math"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// Each test here fails on the published gotch. internal/setup/changes.go lists the changes.

// A handle allocated and cleared 100 KB of Go memory.
func TestHandlesAreSmall(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		x := s.Keep(s.Ones([]int64{4}, gotch.Float, gotch.CPU))
		defer func() { _ = x.Drop() }()
		var before, after runtime.MemStats
		const calls = 1000
		runtime.ReadMemStats(&before)
		for range calls {
			s.Add(x, x)
			s.Close()
		}
		runtime.ReadMemStats(&after)
		if bytes := (after.TotalAlloc - before.TotalAlloc) / calls; bytes > 2000 {
			t.Errorf("an operator allocates %d bytes of Go memory", bytes)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every call lost the 32 bytes that its result was written to.
func TestResultSlotsAreNotLost(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		x := s.Keep(s.Ones([]int64{4}, gotch.Float, gotch.CPU))
		defer func() { _ = x.Drop() }()
		call := func(n int) {
			for range n {
				s.Add(x, x)
				s.Close()
			}
		}
		call(10_000)
		// A leak grows every time; memory that earlier tests still use grows once.
		grown := math.MaxInt
		for range 3 {
			before := resident(t)
			call(600_000)
			grown = min(grown, resident(t)-before)
		}
		if grown > 10<<20 {
			t.Errorf("resident memory grew by %d bytes over each 600,000 calls", grown)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// An operator with four results wrote the fourth beyond the slot's end.
func TestOperatorsWithManyResults(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		a := torch.FromSlice(s, []float64{2, 0, 0, 4}, 2, 2)
		b := torch.FromSlice(s, []float64{2, 8}, 2, 1)
		for range 2000 {
			solution, residuals, rank, singular, err := a.LinalgLstsq(b, nil, "gelsd", false)
			if err != nil {
				return err
			}
			for _, r := range []*ts.Tensor{solution, residuals, rank, singular} {
				s.Own(r)
			}
			if x := torch.ToSlice[float64](s, solution); math.Abs(x[0]-1) > 1e-9 || math.Abs(x[1]-2) > 1e-9 {
				t.Fatalf("solution %v, want 1 and 2", x)
			}
			s.Close()
			a, b = torch.FromSlice(s, []float64{2, 0, 0, 4}, 2, 2), torch.FromSlice(s, []float64{2, 8}, 2, 1)
		}
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// In-place operators never gave the storage back.
func TestInPlaceOperatorsFreeTheirStorage(t *testing.T) {
	const size = 4 << 20 // float32 elements: 16 MiB
	round := func() {
		err := torch.Do(func(s *torch.Scope) error {
			x := s.Ones([]int64{size}, gotch.Float, gotch.CPU)
			s.ScaleInPlace(x, 2)
			s.AddInPlace(x, x)
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	round()
	before := resident(t)
	for range 20 {
		round()
	}
	// The heap keeps a few freed storages; the published gotch keeps all forty.
	if grown := resident(t) - before; grown > 8*4*size {
		t.Errorf("resident memory grew by %d bytes over 20 tensors of %d", grown, 4*size)
	}
}

// A finalizer could free a tensor while its last call was running. Now a tensor that is not
// dropped stays, and is counted.
func TestTheCollectorFreesNoTensor(t *testing.T) {
	before := live()
	func() {
		x, err := ts.Ones([]int64{4}, gotch.Float, gotch.CPU)
		if err != nil || x == nil {
			t.Fatal(err)
		}
	}()
	for range 3 {
		runtime.GC()
	}
	if n := live() - before; n != 1 {
		t.Errorf("%d tensors are left after garbage collection, want the one that was not dropped", n)
	}
}

// Importing gotch made a folder in the home and ended the process if it could
// not.
func TestAnUnwritableHomeIsNoMatter(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "HOME=/proc/none", "GOTCH_CACHE=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
