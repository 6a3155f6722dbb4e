package lm_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/setting"
	"github.com/koala-lm/koala-lm/internal/torch"
	koalaspec "github.com/koala-lm/koala-lm/koala/spec"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// groups serves texts as batches of these sizes: rows of one length each.
type groups struct {
	texts [][]int64
	sizes []int
	at    int
}

func (g *groups) Next() (data.Batch, error) {
	from := 0
	for _, n := range g.sizes[:g.at] {
		from += n
	}
	rows := g.texts[from : from+g.sizes[g.at]]
	g.at++
	b := data.Batch{B: len(rows), GlobalBatch: len(rows), T: len(rows[0]) - 1, ResetState: true}
	for _, row := range rows {
		b.Inputs, b.Targets = append(b.Inputs, row[:len(row)-1]...), append(b.Targets, row[1:]...)
	}
	b.Predictions = len(b.Targets)
	return b, nil
}

func (g *groups) Cursor() data.Cursor {
	return data.Cursor{Epoch: g.at / len(g.sizes), Index: g.at % len(g.sizes)}
}
func (g *groups) Seek(data.Cursor) error { return nil }
func (g *groups) Steps() int             { return len(g.sizes) }

// A step over several batches equals one step over all their tokens, whatever their
// division and their lengths.
func TestAccumulationWeighsTokens(t *testing.T) {
	var texts [][]int64
	for i := range 8 {
		length := 9
		if i >= 5 {
			length = 4
		}
		text := make([]int64, length+1)
		for j := range text {
			text[j] = int64((i*i + 3*i*j + j*j) % 11)
		}
		texts = append(texts, text)
	}
	for name, shape := range map[string]lm.Config{"gpt2": shapes["gpt2"], "llama": shapes["llama"]} {
		t.Run(name, func(t *testing.T) {
			shape.Dropout = lm.Dropout{}
			var first []float64
			var firstLoss float64
			for _, sizes := range [][]int{{5, 3}, {2, 3, 3}, {1, 4, 2, 1}, {1, 1, 1, 1, 1, 1, 1, 1}} {
				m := newModel(t, shape)
				optimizer, err := lm.NewOptimizer(koalaspec.SGD, setting.Values{"lr": 1, "clip": 0}, m)
				if err != nil {
					t.Fatal(err)
				}
				defer optimizer.Close()
				config := lm.TrainConfig{Train: spec.Train{Steps: 1, Accumulate: len(sizes)}, Schedule: spec.Schedule{Kind: "constant"}}
				trainer := &lm.Trainer{Config: config, Model: m, Optimizer: optimizer, Train: &groups{texts: texts, sizes: sizes}, Device: gotch.CPU}
				j := runTrainer(t, trainer)
				var weights []float64
				err = torch.Do(func(s *torch.Scope) error {
					for _, p := range m.Params() {
						weights = append(weights, torch.ToSlice[float64](s, p.Tensor)...)
					}
					return s.Err()
				})
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first, firstLoss = weights, j.steps[0].Nats
				}
				if i := firstApart(weights, first, 1e-6); i >= 0 {
					t.Errorf("batches of %v: weight %d is %g, in batches of 5 and 3 %g", sizes, i, weights[i], first[i])
				}
				if math.Abs(j.steps[0].Nats-firstLoss) > 1e-6 {
					t.Errorf("batches of %v: loss %g, in batches of 5 and 3 %g", sizes, j.steps[0].Nats, firstLoss)
				}
			}
		})
	}
}

// Epochs and totals count all batches, even if steps do not end with an epoch.
func TestAccumulationCountsEpochs(t *testing.T) {
	for _, c := range []struct{ accumulate, epochs, steps int }{
		{1, 2, 50}, {2, 4, 50}, {2, 3, 38}, {6, 6, 25}, {50, 6, 3}, {60, 5, 3},
	} {
		t.Run(fmt.Sprintf("%d batches a step, %d epochs", c.accumulate, c.epochs), func(t *testing.T) {
			config := lm.TrainConfig{
				Train: spec.Train{Epochs: c.epochs, Accumulate: c.accumulate, Seed: 1}, Schedule: spec.Schedule{Kind: "linear"}, Eval: spec.Eval{Every: 1000},
			}
			trainer := newTrainer(t, config, koalaspec.SGD) // 25 batches an epoch
			if n := trainer.TotalSteps(); n != int64(c.steps) {
				t.Errorf("%d steps are announced, want %d", n, c.steps)
			}
			j := runTrainer(t, trainer)
			if n := len(j.steps); n != c.steps {
				t.Errorf("%d steps, want %d", n, c.steps)
			}
			if last := j.steps[len(j.steps)-1]; last.LR == 0 {
				t.Error("the last step has no learning rate: the schedule ended before the run")
			}
		})
	}
}
