package torchtest_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
)

var device gotch.Device

func TestMain(m *testing.M) {
	device = torchtest.Open()
	os.Exit(m.Run())
}

func do(t *testing.T, f func(s *torch.Scope)) {
	t.Helper()
	if err := torch.Do(func(s *torch.Scope) error { f(s); return nil }); err != nil {
		t.Fatal(err)
	}
}

// Operators, views, gradients and changes in place give the CPU's numbers.
func TestDeviceComputes(t *testing.T) {
	results := map[gotch.Device][]float64{}
	for _, d := range []gotch.Device{gotch.CPU, device} {
		do(t, func(s *torch.Scope) {
			x := s.To(torch.FromSlice(s, []float32{1, -2, 3, 4, -5, 6}, 2, 3), gotch.Float, d)
			w := s.Clone(s.Narrow(s.Transpose(x, 0, 1), 0, 0, 2)) // [2, 2]
			s.RequireGrad(w, true)
			y := s.MatMul(s.Narrow(x, 1, 1, 2), s.Tanh(w))
			s.Backward(s.Sum(s.Square(y)))
			s.NoGrad(func() { s.AddInPlace(w, s.Grad(w)) })
			s.Fill(s.Select(s.Detach(w), 0, 1), 7)
			results[d] = append(torch.ToSlice[float64](s, s.Cat(0, w, y)), s.Item(s.Sum(y)))
		})
	}
	if !slices.Equal(results[gotch.CPU], results[device]) {
		t.Errorf("the device computes %v, the CPU %v", results[device], results[gotch.CPU])
	}
}

// What the host does with the device is counted.
func TestDeviceCounts(t *testing.T) {
	do(t, func(s *torch.Scope) {
		c, counted := torchtest.Count(func() {
			x := s.To(torch.FromSlice(s, []float32{1, 2, 3}, 3), gotch.Float, device)
			s.Item(s.Sum(x))
			torch.ToSlice[float32](s, x)
		})
		if !counted {
			t.Skip("a GPU does not count")
		}
		if c.ToDevice != 1 || c.ToDeviceBytes != 12 || c.ToHost != 2 || c.ToHostBytes != 16 || c.Waits != 3 || c.Launches != 1 || c.Peak < 12 {
			t.Errorf("counted %+v", c)
		}
	})
}

// Tensors of two devices in one operator are an error, as on a GPU.
func TestTwoDevicesInOneOperator(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		s.Add(s.Ones([]int64{2}, gotch.Float, device), s.Ones([]int64{2}, gotch.Float, gotch.CPU))
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "Expected all tensors to be on the same device") {
		t.Errorf("error %v", err)
	}
}

func TestDeviceOutOfMemory(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		s.Empty([]int64{1 << 36}, gotch.Float, device)
		return nil
	})
	var full *torch.OutOfMemoryError
	if !errors.As(err, &full) || full.Device != "cuda" || full.Bytes>>30 != 256 {
		t.Errorf("error %v", err)
	}
}

// The loss takes as much memory for logits as the device has to spare, and gives the CPU's
// numbers however much that is.
func TestLossFitsTheFreeMemory(t *testing.T) {
	const vocab, width = 300_000, 2
	for _, test := range []struct{ free, rows, chunk int64 }{
		{64 << 20, 60, torch.DefaultChunkBytes}, // too little for more
		{600 << 20, 61, 2 * torch.DefaultChunkBytes},
		{8 << 30, 62, 4 * torch.DefaultChunkBytes}, // all logits
	} {
		t.Run(fmt.Sprint(test.free>>20, " MiB"), func(t *testing.T) {
			undo, ok := torchtest.ReportFree(test.free)
			defer undo()
			if !ok {
				t.Skip("a GPU has the memory that it has")
			}
			losses := map[gotch.Device]torch.Loss{}
			for _, d := range []gotch.Device{gotch.CPU, device} {
				do(t, func(s *torch.Scope) {
					random := rand.New(rand.NewPCG(1, 2))
					numbers := func(n int64) []float32 {
						v := make([]float32, n)
						for i := range v {
							v[i] = float32(random.NormFloat64())
						}
						return v
					}
					targets := make([]int64, test.rows)
					for i := range targets {
						targets[i] = random.Int64N(vocab)
					}
					weight := s.To(torch.FromSlice(s, numbers(vocab*width), vocab, width), gotch.Float, d)
					hidden := s.To(torch.FromSlice(s, numbers(test.rows*width), test.rows, width), gotch.Float, d)
					ids := s.To(torch.FromSlice(s, targets, test.rows), gotch.Int64, d)
					s.RequireGrad(weight, true)
					c, _ := torchtest.Count(func() { losses[d] = s.CrossEntropy(hidden, weight, nil, ids, torch.CrossEntropyOptions{}) })
					rows := min(test.rows, test.chunk/(4*vocab))
					if least := 4 * rows * vocab; d == device && (c.Peak < least || c.Peak > 3*least+10*vocab*width*4) {
						t.Errorf("the loss took %d bytes, logits %d", c.Peak, least)
					}
				})
			}
			if got := losses[device].ChunkBytes; got != test.chunk {
				t.Errorf("chunks of %d bytes, not %d", got, test.chunk)
			}
			if got, want := losses[device].Nats, losses[gotch.CPU].Nats; math.Abs(got-want) > 1e-5*want || losses[gotch.CPU].ChunkBytes != torch.DefaultChunkBytes {
				t.Errorf("the device's loss is %v, the CPU's %v", got, want)
			}
		})
	}
}

// The host cannot read the device's memory: a process that tries ends.
func TestHostReadsDevice(t *testing.T) {
	const variable = "TORCHTEST_READ"
	if os.Getenv(variable) != "" {
		do(t, func(s *torch.Scope) {
			p, err := s.Ones([]int64{4}, gotch.Float, device).DataPtr()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("read %v", unsafe.Slice((*float32)(p), 4))
		})
		return
	}
	c := exec.Command(os.Args[0], "-test.run", "^TestHostReadsDevice$", "-test.v")
	c.Env = append(os.Environ(), variable+"=1")
	if out, err := c.CombinedOutput(); err == nil || !strings.Contains(string(out), "unexpected fault address") && !strings.Contains(string(out), "SIGSEGV") {
		t.Errorf("%v: %s", err, out)
	}
}
