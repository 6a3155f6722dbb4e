package report

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/koala-lm/koala-lm/tracking"
)

// cost is what a step takes, in milliseconds.
type cost struct {
	model     float64 // forward, loss and backward
	optimizer float64
}

func (c cost) step() float64 { return c.model + c.optimizer }

// readCosts takes medians of what was logged, for means suffer from whatever else
// a machine did: of the optimizer's share over the runs of a search, of the rest
// over all runs that do the same there, whatever their optimizer.
func (s *Sweep) readCosts(ctx context.Context, store *tracking.Store) error {
	model := map[string][]float64{}
	for _, f := range s.searches {
		var optimizer []float64
		for _, p := range f.points {
			for _, run := range p.finished {
				logged, err := readPhases(ctx, store, run.ID)
				if err != nil {
					return err
				}
				kind := workOf(run)
				model[kind] = append(model[kind], logged.model...)
				optimizer = append(optimizer, logged.optimizer...)
			}
		}
		f.cost.optimizer = median(optimizer)
	}
	s.budget = math.NaN()
	for _, f := range s.searches {
		if f.best == nil {
			continue
		}
		f.cost.model = median(model[workOf(f.best.finished[0])])
		if seconds := f.seconds(float64(f.steps())); !(seconds >= s.budget) {
			s.budget = seconds
		}
	}
	return nil
}

// steps that the best point's runs took.
func (f *search) steps() int64 { return f.best.finished[0].Steps }

// seconds that so many steps take.
func (f *search) seconds(steps float64) float64 { return steps * f.cost.step() / 1000 }

// workOf is all on which the time of a step but the optimizer's depends.
func workOf(run tracking.RunSummary) string {
	var b strings.Builder
	for _, key := range []string{"train.batch", "train.bptt", "train.accumulate", "train.precision"} {
		fmt.Fprintf(&b, "%s ", plain(run.Settings[key]))
	}
	var model []string
	for key, value := range run.Settings {
		if strings.HasPrefix(key, "model.") {
			model = append(model, key+"="+plain(value))
		}
	}
	slices.Sort(model)
	return fmt.Sprint(b.String(), model, run.Host, run.Device, run.Threads)
}

// phases are the logged times of a run's steps.
type phases struct{ model, optimizer []float64 }

func readPhases(ctx context.Context, store *tracking.Store, id string) (phases, error) {
	var read phases
	sums := map[int64]float64{}
	for _, metric := range []string{"forward_ms", "loss_ms", "backward_ms"} {
		err := store.Points(ctx, id, metric, func(l tracking.Logged) error {
			sums[l.Step] += l.Value
			return nil
		})
		if err != nil {
			return read, err
		}
	}
	for _, sum := range sums {
		read.model = append(read.model, sum)
	}
	err := store.Points(ctx, id, "optimizer_ms", func(l tracking.Logged) error {
		read.optimizer = append(read.optimizer, l.Value)
		return nil
	})
	return read, err
}

// median is NaN of nothing.
func median(values []float64) float64 {
	values = slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}
