package koala

import (
	"testing"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/internal/torch"
)

// softmaxProblem is softmax regression on recorded data: logits = X W^T + b.
type softmaxProblem struct {
	X     []float64 `json:"X"`
	Y     []int64   `json:"Y"`
	W0    []float64 `json:"W0"`
	B0    []float64 `json:"b0"`
	N     int64
	D     int64
	C     int64
	Batch int64        `json:"batch"`
	Cases []oracleCase `json:"cases"`
}

// runSoftmax runs the recorded trainings of a real problem and returns how many.
func runSoftmax(t *testing.T, path string) int {
	var problem softmaxProblem
	if !readOracle(t, path, &problem) {
		return 0
	}
	for i, c := range problem.Cases {
		t.Run("softmax/"+c.name(i), func(t *testing.T) {
			forms(t, func(t *testing.T, operators bool) { problem.train(t, c, operators) })
		})
	}
	return len(problem.Cases)
}

func (q softmaxProblem) train(t *testing.T, c oracleCase, operators bool) {
	kind, o := c.kind(t)
	if c.Variant == "M" {
		o["float32_scalars"] = true
	}
	tol := c.tolerances(true)
	w := newParam(t, c.dtype(), q.W0, q.C, q.D)
	b := newParam(t, c.dtype(), q.B0, q.C)
	opt := newOptimizer(t, kind, []Group{{Params: Params(w, b), WeightDecay: c.Hyper.WeightDecay}}, o)
	useOperators(opt, operators)
	for k, want := range c.Steps {
		if err := opt.Predict(); err != nil {
			t.Fatal(err)
		}
		if err := opt.ZeroGrad(); err != nil {
			t.Fatal(err)
		}
		rows := make([]int64, q.Batch)
		for i := range rows {
			rows[i] = (q.Batch*int64(k) + int64(i)) % q.N
		}
		m := q.loss(t, c.dtype(), w, b, rows, true)
		if e := worst([]float64{m.Loss, m.MeanSquare}, []float64{want.Loss, want.LossVar}, tol.floor); e > tol.scalars {
			t.Fatalf("step %d: the losses %v are off by %.2g", k, m, e)
		}
		if _, err := opt.Update(m); err != nil {
			t.Fatal(err)
		}
		compareScalars(t, opt, k, "update", want.Update, tol)
		compareAll(t, k, "parameters", []*ts.Tensor{w, b}, want.Params, tol)
		if t.Failed() {
			return
		}
	}
	all := make([]int64, q.N)
	for i := range all {
		all[i] = int64(i)
	}
	m := q.loss(t, c.dtype(), w, b, all, false)
	if e := worst([]float64{m.Loss}, []float64{c.FinalLoss}, tol.floor); e > tol.scalars {
		t.Errorf("final loss %v, recorded %v", m.Loss, c.FinalLoss)
	}
}

// loss returns the mean cross-entropy of the rows, and with gradients runs
// backward from it.
func (q softmaxProblem) loss(t *testing.T, dtype gotch.DType, w, b *ts.Tensor, rows []int64, gradients bool) Measurement {
	t.Helper()
	var x, onehot []float64
	for _, r := range rows {
		x = append(x, q.X[r*q.D:(r+1)*q.D]...)
		row := make([]float64, q.C)
		row[q.Y[r]] = 1
		onehot = append(onehot, row...)
	}
	var m Measurement
	err := torch.Do(func(s *torch.Scope) error {
		n := int64(len(rows))
		logp := s.LogSoftmax(s.Linear(s.To(torch.FromSlice(s, x, n, q.D), dtype, placed), w, b))
		losses := s.Scale(s.SumDims(s.Mul(logp, s.To(torch.FromSlice(s, onehot, n, q.C), dtype, placed)), 1), -1)
		mean := s.Mean(losses)
		m = Measurement{Loss: s.Item(mean), MeanSquare: s.Item(s.Mean(s.Square(losses)))}
		if gradients {
			s.Backward(mean)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
