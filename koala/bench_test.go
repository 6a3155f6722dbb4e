package koala

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/internal/torch/torchtest"
	"github.com/koala-lm/koala-lm/koala/spec"
)

// The parameter sets of the benchmarks; bench/optimizers_peer.py has the same ones.
var benchSets = map[string][][]int64{
	"lstm-tied":   lstmShapes(true),
	"lstm-untied": lstmShapes(false),
	"gpt":         gptShapes(12, 384, 20000, 256),
	"gates":       slices.Repeat([][]int64{{200, 200}}, 16),
	"matrices":    slices.Repeat([][]int64{{128, 128}, {128, 128}, {128, 128}, {128, 128}, {512, 128}, {128, 512}}, 4),
}

// lstmShapes is a word-level model: embedding 33,278 x 200, two LSTM layers of
// 200, output layer.
func lstmShapes(tied bool) [][]int64 {
	const vocab, width = 33278, 200
	shapes := [][]int64{{vocab, width}}
	for range 2 {
		shapes = append(shapes, []int64{4 * width, width}, []int64{4 * width, width}, []int64{4 * width}, []int64{4 * width})
	}
	if !tied {
		shapes = append(shapes, []int64{vocab, width})
	}
	return append(shapes, []int64{vocab})
}

func gptShapes(layers, width, vocab, context int64) [][]int64 {
	shapes := [][]int64{{vocab, width}, {context, width}}
	for range layers {
		shapes = append(shapes, []int64{width}, []int64{3 * width, width}, []int64{width, width},
			[]int64{width}, []int64{4 * width, width}, []int64{width, 4 * width})
	}
	return append(shapes, []int64{width})
}

// randomParams returns float32 leaves with gradients that the benchmark frees.
func randomParams(b *testing.B, shapes [][]int64) []*ts.Tensor {
	b.Helper()
	var params []*ts.Tensor
	err := torch.Do(func(s *torch.Scope) error {
		for _, shape := range shapes {
			p, g := s.Empty(shape, gotch.Float, gotch.CPU), s.Empty(shape, gotch.Float, gotch.CPU)
			s.NormalInPlace(p, 0, 0.1)
			s.NormalInPlace(g, 0, 1e-3)
			s.RequireGrad(p, true)
			s.BackwardFrom([]*ts.Tensor{p}, []*ts.Tensor{g})
			params = append(params, s.Keep(p))
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, p := range params {
			_ = p.Drop()
		}
	})
	return params
}

// BenchmarkStep times Predict and Update together. ms-best is the fastest step, the
// most reliable figure on a shared machine. B/element is the memory that a step of a
// kind with kernels for everything touches.
func BenchmarkStep(b *testing.B) {
	type choice struct {
		name   string
		kind   *spec.Kind
		values setting.Values
		bytes  [2]float64 // an element, without and with weight decay; koala-m's with its prediction
	}
	choices := []choice{{"sgd-momentum", spec.SGD, setting.Values{"momentum": 0.9}, [2]float64{24, 24}}}
	touched := map[*spec.Kind][2]float64{
		spec.Adam: {32, 32}, spec.KoalaV: {16, 20}, spec.KoalaM: {44, 48}, spec.KoalaPP: {40, 44}, spec.KoalaD: {36, 36},
	}
	for _, kind := range spec.Kinds() {
		choices = append(choices, choice{kind.Name, kind, setting.Values{}, touched[kind]})
	}
	for _, set := range slicesSorted(benchSets) {
		for _, threads := range []int{1, 2} {
			for i, decay := range []float64{0, 5e-4} {
				for _, k := range choices {
					b.Run(fmt.Sprintf("%s/threads=%d/wd=%v/%s", set, threads, decay, k.name), func(b *testing.B) {
						b.Cleanup(torchtest.Threads(b, threads))
						// This small rate leaves the parameters unchanged.
						groups := []Group{{Params: withRoles(Params(randomParams(b, benchSets[set])...)), WeightDecay: decay}}
						benchmarkStep(b, newBenchOptimizer(b, k.kind, groups, with(k.values, "lr", 1e-6)))
						if k.bytes[i] > 0 {
							b.ReportMetric(k.bytes[i], "B/element")
						}
					})
				}
			}
		}
	}
}

// withRoles marks the embeddings, which kinds treat differently from matrices.
func withRoles(params []Param) []Param {
	for i, p := range params {
		if shape := torch.Shape(p.Tensor); len(shape) == 2 && shape[0] >= 10_000 {
			params[i].Role = spec.Embedding
		}
	}
	return params
}

func benchmarkStep(b *testing.B, opt Optimizer) {
	var times []time.Duration
	step := func() {
		if err := opt.Predict(); err != nil {
			b.Fatal(err)
		}
		if _, err := opt.Update(Measurement{Loss: 5, MeanSquare: 30}); err != nil {
			b.Fatal(err)
		}
	}
	for range 3 {
		step()
	}
	b.ResetTimer()
	for range b.N {
		start := time.Now()
		step()
		times = append(times, time.Since(start))
	}
	b.StopTimer()
	b.ReportMetric(float64(slices.Min(times))/1e6, "ms-best")
}

func newBenchOptimizer(b *testing.B, kind *spec.Kind, groups []Group, o setting.Values) Optimizer {
	b.Helper()
	opt, err := New(kind, o, groups)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = opt.Close() })
	return opt
}

// BenchmarkBandwidth measures the machine's memory bandwidth for such passes: a copy
// of 64 MB into another 64 MB, and the addition of one to the other.
func BenchmarkBandwidth(b *testing.B) {
	const n = 16 << 20 // float32
	for _, threads := range []int{1, 2} {
		for _, pass := range []struct {
			name  string
			bytes float64
			run   func(s *torch.Scope, dst, src *ts.Tensor)
		}{
			{"copy", 8 * n, func(s *torch.Scope, dst, src *ts.Tensor) { s.CopyInto(dst, src) }},
			{"add", 12 * n, func(s *torch.Scope, dst, src *ts.Tensor) { s.AddInPlace(dst, src) }},
		} {
			b.Run(fmt.Sprintf("threads=%d/%s", threads, pass.name), func(b *testing.B) {
				b.Cleanup(torchtest.Threads(b, threads))
				err := torch.Do(func(s *torch.Scope) error {
					src, dst := s.Zeros([]int64{n}, gotch.Float, gotch.CPU), s.Ones([]int64{n}, gotch.Float, gotch.CPU)
					best := time.Duration(1 << 62)
					for range b.N {
						start := time.Now()
						pass.run(s, dst, src)
						best = min(best, time.Since(start))
					}
					b.ReportMetric(pass.bytes/best.Seconds()/1e9, "GB/s-best")
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
