package torch_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// lossCase is one call of CrossEntropy. Its inputs depend only on the case.
type lossCase struct {
	rows, units, vocab int64
	bias               bool
	ignoreEvery        int64 // every so many rows have target -1; 0 for none
	transposed         bool  // hidden and weight are views whose rows are not contiguous
	dtype              gotch.DType
	chunkBytes         int64
}

func (c lossCase) String() string {
	return fmt.Sprintf("%dx%dx%d,bias=%t,ignore=%d,transposed=%t,dtype=%v,chunk=%d",
		c.rows, c.units, c.vocab, c.bias, c.ignoreEvery, c.transposed, c.dtype, c.chunkBytes)
}

type lossInputs struct {
	hidden, weight, bias *ts.Tensor // leaves
	targets              []int64
}

func (c lossCase) inputs(s *torch.Scope) lossInputs {
	s.Fail(torch.Seed(3, c.rows, c.vocab))
	leaf := func(scale float64, shape ...int64) *ts.Tensor {
		p := s.Empty(shape, c.dtype, gotch.CPU)
		s.NormalInPlace(p, 0, scale)
		s.RequireGrad(p, true)
		return p
	}
	in := lossInputs{hidden: leaf(1, c.rows, c.units), weight: leaf(0.2, c.vocab, c.units)}
	if c.transposed {
		in.hidden, in.weight = leaf(1, c.units, c.rows), leaf(0.2, c.units, c.vocab)
	}
	if c.bias {
		in.bias = leaf(1, c.vocab)
	}
	for i := range c.rows {
		target := i * 7919 % c.vocab
		if c.ignoreEvery > 0 && i%c.ignoreEvery == 0 {
			target = -1
		}
		in.targets = append(in.targets, target)
	}
	return in
}

// views gives hidden [N, D] and weight [V, D].
func (c lossCase) views(s *torch.Scope, in lossInputs) (hidden, weight *ts.Tensor) {
	if c.transposed {
		return s.Transpose(in.hidden, 0, 1), s.Transpose(in.weight, 0, 1)
	}
	return in.hidden, in.weight
}

type lossResult struct {
	nats, meanSquare float64
	tokens           int64
	perToken         []float64
	gradients        map[string][]float64
}

func (in lossInputs) gradients(s *torch.Scope) map[string][]float64 {
	g := map[string][]float64{}
	for name, leaf := range map[string]*ts.Tensor{"hidden": in.hidden, "weight": in.weight, "bias": in.bias} {
		if leaf != nil {
			g[name] = torch.ToSlice[float64](s, s.Grad(leaf))
			s.ClearGrad(leaf)
		}
	}
	return g
}

// chunked computes the loss with CrossEntropy, the function under test. It
// scales the loss before backward, as gradient accumulation does.
func (c lossCase) chunked(s *torch.Scope, in lossInputs) lossResult {
	hidden, weight := c.views(s, in)
	l := s.CrossEntropy(hidden, weight, in.bias, torch.FromSlice(s, in.targets, c.rows),
		torch.CrossEntropyOptions{ChunkBytes: c.chunkBytes, PerToken: true})
	s.Backward(s.Scale(l.Mean, 0.25))
	return lossResult{l.Nats, l.MeanSquare, l.Tokens, torch.ToSlice[float64](s, l.PerToken), in.gradients(s)}
}

// plain computes the same from all logits, in float64 with libtorch's
// operators.
func (c lossCase) plain(s *torch.Scope, in lossInputs) lossResult {
	hidden, weight := c.views(s, in)
	double := func(t *ts.Tensor) *ts.Tensor { return s.To(t, gotch.Double, gotch.CPU) }
	var bias *ts.Tensor
	if in.bias != nil {
		bias = double(in.bias)
	}
	r := lossResult{}
	wanted := make([]float64, c.rows*c.vocab)
	for i, target := range in.targets {
		if target >= 0 {
			wanted[int64(i)*c.vocab+target] = -1
			r.tokens++
		}
	}
	logProbs := s.LogSoftmax(s.Linear(double(hidden), double(weight), bias))
	losses := s.SumDims(s.Mul(logProbs, torch.FromSlice(s, wanted, c.rows, c.vocab)), 1)
	r.perToken = torch.ToSlice[float64](s, losses)
	count := float64(max(r.tokens, 1))
	for _, l := range r.perToken {
		r.nats += l / count
		r.meanSquare += l * l / count
	}
	s.Backward(s.Scale(s.Sum(losses), 0.25/count))
	r.gradients = in.gradients(s)
	return r
}

func TestCrossEntropyAgreesWithPlainSoftmax(t *testing.T) {
	cases := []lossCase{
		{rows: 1, units: 1, vocab: 2},
		{rows: 5, units: 3, vocab: 7, bias: true},
		{rows: 33, units: 20, vocab: 101, chunkBytes: 1}, // one row a chunk
		{rows: 33, units: 20, vocab: 101, bias: true, ignoreEvery: 3, chunkBytes: 101 * 4 * 10},
		{rows: 40, units: 36, vocab: 1003, bias: true, ignoreEvery: 4, transposed: true},
		{rows: 64, units: 64, vocab: 4096},
		{rows: 701, units: 200, vocab: 2049, bias: true, ignoreEvery: 50},
		{rows: 8, units: 4, vocab: 10, bias: true, ignoreEvery: 1}, // nothing counts
	}
	for _, dtype := range []gotch.DType{gotch.Float, gotch.Double} {
		tolerance := 1e-12
		if dtype == gotch.Float {
			tolerance = 3e-6
		}
		for _, c := range cases {
			c.dtype = dtype
			t.Run(c.String(), func(t *testing.T) {
				err := torch.Do(func(s *torch.Scope) error {
					in := c.inputs(s)
					got, want := c.chunked(s, in), c.plain(s, in)
					if !s.OK() {
						return s.Err()
					}
					if got.tokens != want.tokens {
						t.Errorf("%d tokens counted, want %d", got.tokens, want.tokens)
					}
					near(t, "loss", []float64{got.nats}, []float64{want.nats}, tolerance)
					near(t, "mean square", []float64{got.meanSquare}, []float64{want.meanSquare}, tolerance)
					near(t, "losses", got.perToken, want.perToken, tolerance)
					for name := range want.gradients {
						near(t, "gradient of "+name, got.gradients[name], want.gradients[name], tolerance)
					}
					return s.Err()
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// near compares within a tolerance relative to the largest number of want.
func near(t *testing.T, what string, got, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d numbers, want %d", what, len(got), len(want))
		return
	}
	largest := 0.0
	for _, w := range want {
		largest = max(largest, math.Abs(w))
	}
	for i := range want {
		if !(math.Abs(got[i]-want[i]) <= tolerance*largest) {
			t.Errorf("%s: number %d is %g, want %g (largest %g)", what, i, got[i], want[i], largest)
			return
		}
	}
}

func TestCrossEntropyWithoutGradients(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		c := lossCase{rows: 50, units: 16, vocab: 300, bias: true, ignoreEvery: 7, dtype: gotch.Float}
		in := c.inputs(s)
		want := c.plain(s, in)
		s.NoGrad(func() {
			l := s.CrossEntropy(in.hidden, in.weight, in.bias, torch.FromSlice(s, in.targets, c.rows), torch.CrossEntropyOptions{PerToken: true})
			near(t, "loss", []float64{l.Nats, s.Item(l.Mean)}, []float64{want.nats, want.nats}, 1e-6)
			near(t, "mean square", []float64{l.MeanSquare}, []float64{want.meanSquare}, 1e-6)
			near(t, "losses", torch.ToSlice[float64](s, l.PerToken), want.perToken, 1e-6)
		})
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCrossEntropyRefusesTargetsOutsideTheVocabulary(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		h, w := s.Zeros([]int64{2, 3}, gotch.Float, gotch.CPU), s.Zeros([]int64{5, 3}, gotch.Float, gotch.CPU)
		s.CrossEntropy(h, w, nil, torch.FromSlice(s, []int64{0, 5}, 2), torch.CrossEntropyOptions{})
		return s.Err()
	})
	if err == nil {
		t.Fatal("target 5 of a vocabulary of 5 was taken")
	}
}

// Logits whose exp overflows float32 have a finite loss. Logits that are not
// numbers must not give one.
func TestCrossEntropyAtTheEdges(t *testing.T) {
	for _, test := range []struct {
		logits []float32
		target int64
		want   float64
	}{
		{[]float32{1e4, 0, -1e4}, 0, 0},
		{[]float32{1e4, 0, -1e4}, 1, 1e4},
		{[]float32{3e38, 3e38}, 0, math.Ln2},
		{[]float32{-200, -200, -200, -200}, 2, math.Log(4)},
		{[]float32{float32(math.NaN()), 0}, 1, math.NaN()},
		{[]float32{float32(math.Inf(1)), 0}, 1, math.NaN()},
	} {
		err := torch.Do(func(s *torch.Scope) error {
			weight := torch.FromSlice(s, test.logits, int64(len(test.logits)), 1)
			hidden := torch.FromSlice(s, []float32{1}, 1, 1)
			s.RequireGrad(hidden, true)
			l := s.CrossEntropy(hidden, weight, nil, torch.FromSlice(s, []int64{test.target}, 1), torch.CrossEntropyOptions{})
			if got := l.Nats; math.Abs(got-test.want) > 1e-6*test.want && !(math.IsNaN(test.want) && (math.IsNaN(got) || math.IsInf(got, 1))) {
				t.Errorf("logits %v, target %d: loss %g, want %g", test.logits, test.target, got, test.want)
			}
			return s.Err()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Both uses of a tied weight add to one dense gradient.
func TestTiedEmbeddingGradient(t *testing.T) {
	err := torch.Do(func(s *torch.Scope) error {
		weight := s.Empty([]int64{50, 6}, gotch.Float, gotch.CPU)
		s.NormalInPlace(weight, 0, 1)
		s.RequireGrad(weight, true)
		ids := torch.FromSlice(s, []int64{3, 3, 0, 49, 7, 3, 7, 21}, 8)
		var gradients [2][]float64
		for i, embed := range []func(*torch.Scope, *ts.Tensor, *ts.Tensor) *ts.Tensor{(*torch.Scope).Embedding, (*torch.Scope).TiedEmbedding} {
			for range 2 { // the second adds to the first
				hidden := s.Tanh(embed(s, weight, ids))
				s.Backward(s.CrossEntropy(hidden, weight, nil, ids, torch.CrossEntropyOptions{}).Mean)
			}
			gradients[i] = torch.ToSlice[float64](s, s.Grad(weight))
			s.ClearGrad(weight)
		}
		near(t, "gradient", gradients[1], gradients[0], 1e-6)
		return s.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
}
