package lm_test

import (
	"math"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
)

// EvaluateTokens gives the losses in the order of the batch's targets, whichever order the
// model has.
func TestEvaluateTokens(t *testing.T) {
	text := noisy(75, 11)
	for name, open := range map[string]func() (data.Batcher, error){
		"columns": func() (data.Batcher, error) { return data.NewContiguous(text, 4, 7, data.Evaluation()) },
		"windows": func() (data.Batcher, error) { return data.NewSequential(text, 4, 7, data.Evaluation()) },
	} {
		for shape, config := range shapes {
			t.Run(name+" "+shape, func(t *testing.T) {
				m := newModel(t, config)
				batches, err := open()
				if err != nil {
					t.Fatal(err)
				}
				sum, n := 0.0, int64(0)
				r, err := lm.EvaluateTokens(t.Context(), m, batches, gotch.CPU, func(b data.Batch, nats []float64) error {
					for i, target := range b.Targets {
						if (target == data.Ignore) != (nats[i] == 0) {
							t.Errorf("target %d of a batch is %d and has the loss %g", i, target, nats[i])
						}
						if sum += nats[i]; target != data.Ignore {
							n++
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if n != r.Tokens || n != int64(text.Len())-1 || math.Abs(sum/float64(n)-r.Nats) > 1e-6 {
					t.Errorf("%d losses with the mean %.7f, want %d with %.7f", n, sum/float64(n), r.Tokens, r.Nats)
				}
			})
		}
	}
}
