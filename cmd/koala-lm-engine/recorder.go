package main

import (
	"errors"
	"fmt"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/lm"
	"github.com/koala-lm/koala-lm/tracking"
)

// recorder puts what the loop announces into the store. Losing a metric is no
// reason to lose the training: what is wrong with the store is told, each once.
type recorder struct {
	lm.NoObserver
	run  *tracking.Run
	info data.Info
	warn func(format string, args ...any)
	told struct{ lost, waiting, moved bool }
}

// splitPrefix is what a split's metrics begin with.
var splitPrefix = map[string]string{"valid": "val_", "test": "test_"}

func (r *recorder) log(step, tokens int64, values map[string]float64) error {
	lost := r.run.Log(tracking.Point{Step: step, Tokens: tokens, Values: values})
	waiting := r.run.Err()
	if errors.Is(lost, tracking.ErrTakenOver) || errors.Is(waiting, tracking.ErrTakenOver) {
		return fmt.Errorf("run %s: %w", r.run.ID(), tracking.ErrTakenOver)
	}
	if first(&r.told.lost, lost != nil) {
		r.warn("the store takes no metrics, training goes on without them: %v", lost)
	} else if first(&r.told.waiting, waiting != nil) {
		r.warn("the store takes no writes, metrics wait in memory and training goes on: %v", waiting)
	}
	if first(&r.told.moved, r.run.Moved()) {
		r.warn("the store was deleted or replaced: this run's record, whole, is in a new one in its place")
	}
	return nil
}

// first says whether something happens for the first time.
func first(told *bool, happens bool) bool {
	if !happens || *told {
		return false
	}
	*told = true
	return true
}

func (r *recorder) Logged(l lm.Log) error {
	o := l.Step.Optimizer
	milliseconds := func(d interface{ Seconds() float64 }) float64 { return 1000 * d.Seconds() }
	values := map[string]float64{
		"train_loss": l.Nats, "train_ppl": perplexity(l.Nats),
		"lr": l.Step.LR, "grad_norm": o.GradNorm,
		"tokens_per_second": l.TokensPerSecond,
		"forward_ms":        milliseconds(l.Phases.Forward),
		"loss_ms":           milliseconds(l.Phases.Loss),
		"backward_ms":       milliseconds(l.Phases.Backward),
		"optimizer_ms":      milliseconds(l.Phases.Optimizer),
		"rss_bytes":         float64(residentBytes()),
		"skipped_steps":     float64(l.Skipped),
	}
	for name, v := range map[string]float64{"reduce_ms": milliseconds(l.Phases.Reduce), "koala_sigma": o.Sigma, "koala_r": o.R, "koala_gain": o.Gain} {
		if v != 0 {
			values[name] = v
		}
	}
	return r.log(l.Step.Step, l.Step.Tokens, values)
}

func (r *recorder) EpochEnded(e lm.Epoch) error {
	return r.log(e.Step, e.Tokens, map[string]float64{"epoch_loss": e.Nats, "epoch_ppl": perplexity(e.Nats)})
}

func (r *recorder) Evaluated(e lm.Evaluation) error {
	return r.log(e.Step, e.Tokens, splitMetrics(splitPrefix[e.Split], e.Result, r.info.Splits[e.Split]))
}
