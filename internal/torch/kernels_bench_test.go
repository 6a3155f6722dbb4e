package torch_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// The shapes of word_language_model's small LSTM on WikiText-2.
const (
	benchRows  = 35 * 20
	benchUnits = 200
	benchVocab = 33278
)

func benchTensor(s *torch.Scope, requireGrad bool, shape ...int64) *ts.Tensor {
	t := s.Empty(shape, gotch.Float, gotch.CPU)
	s.UniformInPlace(t, -0.1, 0.1)
	s.RequireGrad(t, requireGrad)
	return t
}

func benchTargets(s *torch.Scope, n, vocab int64) *ts.Tensor {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i) * 7919 % vocab
	}
	return torch.FromSlice(s, ids, n)
}

// benchDo runs the step that prepare returns in a new scope each time, within
// the scope of prepare's tensors. It also reports the median, which is more
// reliable than the mean on a busy machine.
func benchDo(b *testing.B, prepare func(outer *torch.Scope) func(s *torch.Scope)) {
	b.Helper()
	err := torch.Main(0, func() error {
		return torch.Do(func(outer *torch.Scope) error {
			step := prepare(outer)
			inner := torch.NewScope()
			run := func() time.Duration {
				start := time.Now()
				step(inner)
				inner.Close()
				return time.Since(start)
			}
			run() // the first pays for memory and threads
			var times []time.Duration
			for b.Loop() {
				times = append(times, run())
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1e3, "median-ms")
			return errors.Join(outer.Err(), inner.Err())
		})
	})
	if err != nil {
		b.Fatal(err)
	}
}

func BenchmarkCrossEntropy(b *testing.B) {
	for _, mb := range []int64{8, 32, 128} {
		b.Run(fmt.Sprintf("chunk=%dMB", mb), func(b *testing.B) {
			benchDo(b, func(outer *torch.Scope) func(*torch.Scope) {
				h, w := benchTensor(outer, true, benchRows, benchUnits), benchTensor(outer, true, benchVocab, benchUnits)
				bias, targets := benchTensor(outer, true, benchVocab), benchTargets(outer, benchRows, benchVocab)
				return func(s *torch.Scope) {
					s.Backward(s.CrossEntropy(h, w, bias, targets, torch.CrossEntropyOptions{ChunkBytes: mb << 20}).Mean)
					for _, t := range []*ts.Tensor{h, w, bias} {
						s.ClearGrad(t)
					}
				}
			})
		})
	}
}

// BenchmarkCrossEntropyProducts measures the three matrix products that the
// loss and its gradients need: a lower bound for BenchmarkCrossEntropy.
func BenchmarkCrossEntropyProducts(b *testing.B) {
	benchDo(b, func(outer *torch.Scope) func(*torch.Scope) {
		h, w := benchTensor(outer, false, benchRows, benchUnits), benchTensor(outer, false, benchVocab, benchUnits)
		return func(s *torch.Scope) {
			logits := s.MatMul(h, s.Transpose(w, 0, 1))
			s.MatMul(logits, w)
			s.MatMul(s.Transpose(logits, 0, 1), h)
		}
	})
}

func BenchmarkLSTM(b *testing.B) {
	benchDo(b, func(outer *torch.Scope) func(*torch.Scope) {
		x := benchTensor(outer, true, 35, 20, benchUnits)
		h, c := benchTensor(outer, false, 20, benchUnits), benchTensor(outer, false, 20, benchUnits)
		w := torch.RNNWeights{
			InputHidden:  benchTensor(outer, true, 4*benchUnits, benchUnits),
			HiddenHidden: benchTensor(outer, true, 4*benchUnits, benchUnits),
			InputBias:    benchTensor(outer, true, 4*benchUnits),
			HiddenBias:   benchTensor(outer, true, 4*benchUnits),
		}
		return func(s *torch.Scope) {
			y, _, _ := s.LSTM(x, h, c, w)
			s.Backward(s.Mean(y))
			for _, t := range []*ts.Tensor{x, w.InputHidden, w.HiddenHidden, w.InputBias, w.HiddenBias} {
				s.ClearGrad(t)
			}
		}
	})
}

// BenchmarkLSTMProducts measures only the matrix products of BenchmarkLSTM.
func BenchmarkLSTMProducts(b *testing.B) {
	benchDo(b, func(outer *torch.Scope) func(*torch.Scope) {
		x := benchTensor(outer, false, benchRows, benchUnits)
		w := benchTensor(outer, false, 4*benchUnits, benchUnits)
		dz := benchTensor(outer, false, benchRows, 4*benchUnits)
		h, z := benchTensor(outer, false, 20, benchUnits), benchTensor(outer, false, 20, 4*benchUnits)
		return func(s *torch.Scope) {
			wt, dzt := s.Transpose(w, 0, 1), s.Transpose(dz, 0, 1)
			s.MatMul(x, wt)
			for range 35 {
				s.MatMul(h, wt)
				s.MatMul(z, w)
			}
			s.MatMul(dz, w)
			s.MatMul(dzt, x)
			s.MatMul(dzt, x)
		}
	})
}
