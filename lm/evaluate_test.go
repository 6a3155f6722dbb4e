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

// A text much shorter than the context and the batch costs no more than its tokens.
func TestReadingOfAShortText(t *testing.T) {
	m := newModel(t, shapes["gpt2"]) // a context of 10
	for _, c := range []struct{ tokens, stride, rows, length int }{{2, 0, 1, 1}, {5, 0, 1, 4}, {5, 9, 1, 4}, {11, 3, 1, 10}, {25, 0, 3, 10}, {25, 4, 5, 10}} {
		batches, err := lm.Reading{Batch: 64, Stride: c.stride}.Batches(m, noisy(c.tokens, 11))
		if err != nil {
			t.Fatal(err)
		}
		b, err := batches.Next()
		if err != nil || b.B != c.rows || b.T != c.length || b.Predictions != c.tokens-1 {
			t.Errorf("%d tokens with stride %d: a batch [%d, %d] with %d predictions (%v), want [%d, %d]", c.tokens, c.stride, b.B, b.T, b.Predictions, err, c.rows, c.length)
		}
	}
}
