package run

import (
	"context"
	"fmt"
	"io"
	"math"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/lm/spec"
	"github.com/koala-lm/koala-lm/report"
)

// The range of a test, as factors of optimizer.lr, and its steps if train.steps does
// not set them.
const (
	rangeLowest  = 1e-3
	rangeHighest = 1e2
	rangeSteps   = 200
)

// FindLR makes a learning-rate range test of the job (Smith 2017): the learning rate
// rises exponentially from step to step until the loss diverges. The losses show
// which rates train. The result goes to the job's Stdout; nothing is recorded.
func FindLR(ctx context.Context, job Job) error {
	dataset, err := data.Open(job.Data)
	if err != nil {
		return err
	}
	return UntilBuilt(ctx, func(built func()) error {
		defer dataset.Close()
		return torch.Main(job.Threads, func() error { return job.findLR(ctx, dataset, built) })
	})
}

func (job Job) findLR(ctx context.Context, dataset *data.Dataset, built func()) error {
	device, err := torch.ParseDevice(job.Device)
	if err != nil {
		return err
	}
	var precision string
	job.Settings, precision = SettlePrecision(job.Settings, dataset.Vocab(), device)
	trainer, err := newTrainer(job.Settings, dataset, device, data.Shard(0, 1))
	if err != nil {
		return err
	}
	defer closeTrainer(trainer)
	built()
	from, err := job.restore(trainer, dataset)
	if err != nil {
		return err
	}
	defer from.close()
	c := &trainer.Config
	if c.Steps == 0 {
		c.Steps = rangeSteps
	}
	c.Epochs, c.TimeLimit, c.MaxSkipped = 0, 0, 0
	c.Eval.Every, c.Checkpoint.Every = math.MaxInt64, math.MaxInt64
	c.Schedule = spec.Schedule{Kind: "constant"}
	c.RangeTest = &lm.RangeTest{Lowest: rangeLowest, Highest: rangeHighest, Steps: c.Steps}
	trainer.Valid, trainer.Test = nil, nil

	inner, stop := context.WithCancel(ctx)
	defer stop()
	test := &rangeTest{stop: stop}
	bar := newProgress(job.Stderr, job.Quiet, c.Steps, 0)
	bar.sayPrecision(precision)
	trainer.Observers = []lm.Observer{test, bar}
	err = trainer.Run(inner)
	bar.close()
	if err != nil && (!test.ranAway || ctx.Err() != nil) {
		return err
	}
	return test.write(job.Stdout)
}

// A rangeTest collects losses with their learning rates.
type rangeTest struct {
	lm.NoObserver
	points  []ratePoint
	mean    float64 // running mean of the losses, biased towards 0
	lowest  float64
	ranAway bool
	stop    func()
}

// ratePoint is one step: its learning rate and the smoothed loss before it.
type ratePoint struct{ lr, nats float64 }

// smoothing is the decay of the running mean of the losses.
const smoothing = 0.9

// Stepped adds a step, and stops the test once the loss has diverged.
func (t *rangeTest) Stepped(s lm.Step) error {
	if math.IsNaN(s.Nats) || math.IsInf(s.Nats, 0) || s.Optimizer.NonFinite {
		t.runAway()
		return nil
	}
	n := float64(len(t.points) + 1)
	t.mean = smoothing*t.mean + (1-smoothing)*s.Nats
	nats := t.mean / (1 - math.Pow(smoothing, n))
	t.points = append(t.points, ratePoint{s.LR, nats})
	if len(t.points) == 1 || nats < t.lowest {
		t.lowest = nats
	}
	if nats > 1.5*t.lowest {
		t.runAway()
	}
	return nil
}

func (t *rangeTest) runAway() {
	t.ranAway = true
	t.stop()
}

// steepest returns the index of the point where the loss falls fastest over the
// logarithm of the learning rate, and the index of the lowest loss, which follows it.
func (t *rangeTest) steepest() (steepest, lowest int) {
	for i, p := range t.points {
		if p.nats < t.points[lowest].nats {
			lowest = i
		}
	}
	const width = 5 // steps on each side: a single step's loss is noisy
	fall := 0.0
	for i := width; i+width <= lowest; i++ {
		before, after := t.points[i-width], t.points[i+width]
		if d := (before.nats - after.nats) / math.Log(after.lr/before.lr); d > fall {
			steepest, fall = i, d
		}
	}
	return steepest, lowest
}

// write prints about twenty points, and the points of steepest fall and lowest loss.
func (t *rangeTest) write(w io.Writer) error {
	if len(t.points) == 0 {
		return fmt.Errorf("the loss is not finite at the lowest learning rate: lower optimizer.lr")
	}
	table := report.Table{Columns: []report.Column{{Name: "lr", Title: "optimizer.lr", Right: true}, {Name: "loss", Title: "loss", Right: true}}}
	every := max(1, len(t.points)/20)
	for i := 0; i < len(t.points); i += every {
		p := t.points[i]
		table.Rows = append(table.Rows, []any{fmt.Sprintf("%.3g", p.lr), fmt.Sprintf("%.4f", p.nats)})
	}
	if err := (report.Output{W: w, Format: report.Aligned}).Render(table); err != nil {
		return err
	}
	steepest, lowest := t.steepest()
	if steepest == 0 {
		_, err := fmt.Fprintf(w, "\nthe loss does not fall: raise --steps, or change optimizer.lr\n")
		return err
	}
	if _, err := fmt.Fprintf(w, "\nsteepest fall at optimizer.lr %.3g, lowest loss at %.3g", t.points[steepest].lr, t.points[lowest].lr); err != nil {
		return err
	}
	end := ", and it does not run away"
	if t.ranAway {
		end = fmt.Sprintf(", runs away at %.3g", t.points[len(t.points)-1].lr)
	}
	_, err := fmt.Fprintln(w, end)
	return err
}
