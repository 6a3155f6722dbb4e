package lm

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sugarme/gotch"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// TrainConfig configures a Trainer.
type TrainConfig struct {
	spec.Train
	Schedule   spec.Schedule
	Eval       spec.Eval
	Checkpoint spec.Checkpoint

	// RangeTest, if not nil, replaces Schedule.
	RangeTest *RangeTest
}

// A Trainer trains one model. Fill the exported fields and call Run. The caller
// closes the fields.
type Trainer struct {
	Config    TrainConfig
	Model     Model
	Optimizer koala.Optimizer
	Train     data.Batcher
	// Valid and Test return a new pass over a split; nil without the split.
	Valid, Test func() (data.Batcher, error)
	Device      gotch.Device
	Group       ProcessGroup // nil is a SingleProcess
	Observers   []Observer

	schedule *Schedule
	state    *RecurrentState // carried from batch to batch
	progress Progress
	started  time.Time
	saved    time.Time // time of the last offered snapshot

	reducer     Reducer      // nil before the first step
	agreed      controlFlags // the ranks' common flags of the last step
	globalBatch int          // texts in the global batch
}

// ErrInterrupted is returned by Run when its context ended. The last step is
// complete, and its state was offered for a checkpoint.
var ErrInterrupted = errors.New("training was interrupted")

// divergedNats is the loss above which training has diverged: no model of a vocabulary
// that fits in memory comes near it, since guessing costs the vocabulary's logarithm.
const divergedNats = 1000

// diverged reports whether a loss is that of a model that is lost.
func diverged(nats float64) bool { return !(nats <= divergedNats) }

// A DivergedError ends a run whose loss or gradients diverged and stayed so, or whose
// loss has diverged at its end.
type DivergedError struct {
	Step    int64
	Skipped int // number of consecutive steps in which they did; 0 at the run's end
}

func (e *DivergedError) Error() string {
	what := fmt.Sprintf("the loss at its end, after step %d, is not finite or above %d nats a token", e.Step, divergedNats)
	if e.Skipped > 0 {
		what = fmt.Sprintf("the loss or a gradient was not finite, or the loss above %d nats a token, in %d steps in a row, the last of them step %d", divergedNats, e.Skipped, e.Step)
	}
	return "training diverged: " + what + "; lower optimizer.lr (or optimizer.q for koala), or set train.clip"
}

// lower replaces an error for lack of memory by one that says what to lower.
func lower(err error, what string) error {
	var memory *torch.OutOfMemoryError
	if !errors.As(err, &memory) {
		return err
	}
	return fmt.Errorf("%w: lower %s", memory, what)
}

// Run trains until a limit is reached, the patience is used up or ctx ends.
func (t *Trainer) Run(ctx context.Context) error {
	if err := t.prepare(); err != nil {
		return err
	}
	defer t.free()
	t.started = time.Now()
	t.saved = t.started
	// A run that was interrupted during an evaluation repeats it.
	if err := t.afterStep(ctx); err != nil {
		return err
	}
	for !t.done(ctx) {
		if t.control(ctx).stop {
			return t.interrupted()
		}
		if err := t.trainStep(ctx); err != nil {
			return err
		}
		if err := t.afterStep(ctx); err != nil {
			return err
		}
	}
	return t.finish(ctx)
}

// TotalSteps returns the number of steps by the limits on steps and epochs, or 0
// without such a limit.
func (t *Trainer) TotalSteps() int64 {
	total := t.Config.Steps
	each := int64(max(1, t.Config.Accumulate))
	epochs := (int64(t.Config.Epochs)*int64(t.Train.Steps()) + each - 1) / each // the last step may read beyond the last epoch
	if epochs > 0 && (total == 0 || epochs < total) {
		return epochs
	}
	return total
}

func (t *Trainer) prepare() error {
	t.defaultGroup()
	t.Config.Accumulate = max(1, t.Config.Accumulate)
	t.Config.LogEvery = max(1, t.Config.LogEvery)
	if t.Config.GradientCheckpointing {
		torch.ReturnBlocks()
	}
	if r := t.Config.RangeTest; r != nil {
		if err := r.Check(); err != nil {
			return err
		}
	}
	var err error
	if t.schedule, err = NewSchedule(t.Config.Schedule, t.TotalSteps()); err != nil {
		return err
	}
	if t.progress.Best == nil && t.progress.Step == 0 {
		t.progress.Schedule = t.schedule.State
	}
	t.schedule.State = t.progress.Schedule
	return nil
}

// defaultGroup gives a trainer without a group a group of one process.
func (t *Trainer) defaultGroup() {
	if t.Group == nil {
		t.Group = SingleProcess{}
	}
}

// free frees the memory that the run allocated.
func (t *Trainer) free() {
	t.state.Close()
	t.state = nil
	if t.reducer != nil {
		t.reducer.Close()
		t.reducer = nil
	}
}

// done reports whether a limit is reached.
func (t *Trainer) done(ctx context.Context) bool {
	c, p := t.Config, t.progress
	return p.Stopped ||
		c.Steps > 0 && p.Step >= c.Steps ||
		c.Epochs > 0 && p.Epoch >= c.Epochs ||
		t.control(ctx).end
}

// trainStep makes one optimizer step and updates the run's figures.
func (t *Trainer) trainStep(ctx context.Context) error {
	p := &t.progress
	step, err := t.step(ctx)
	if err != nil {
		err = lower(err, "train.batch and raise train.accumulate by as much, or lower train.bptt (model.context) or model.hidden")
		return fmt.Errorf("step %d: %w", p.Step+1, err)
	}
	p.Step++
	p.unsaved = true
	p.Tokens += step.tokens
	p.Index++
	event := Step{
		Step: p.Step, Tokens: p.Tokens, Epoch: p.Epoch, Index: p.Index, Length: step.length,
		Nats: step.nats, LR: t.Optimizer.LR(), Optimizer: step.info, Phases: step.phases,
	}
	if step.info.NonFinite {
		p.Skipped++
	} else {
		p.Window.Add(step.nats, step.tokens)
		p.EpochMean.Add(step.nats, step.tokens)
	}
	if t.Valid == nil {
		p.Diverged = !step.info.NonFinite && diverged(step.nats)
	}
	if !step.info.NonFinite && !diverged(step.nats) {
		p.SkippedInARow = 0
	} else if p.SkippedInARow++; t.Config.MaxSkipped > 0 && p.SkippedInARow > t.Config.MaxSkipped {
		return &DivergedError{Step: p.Step, Skipped: p.SkippedInARow}
	}
	p.phases = p.phases.add(step.phases)
	p.windowSteps++
	if err := t.notify(func(o Observer) error { return o.Stepped(event) }); err != nil {
		return err
	}
	if p.Step%t.Config.LogEvery == 0 {
		if err := t.log(event); err != nil {
			return err
		}
	}
	p.EvaluationDue = step.epochs > 0
	if t.Config.Eval.Every > 0 {
		p.EvaluationDue = p.Step%t.Config.Eval.Every == 0
	}
	if step.epochs > 0 {
		end := Epoch{Step: p.Step, Tokens: p.Tokens, Epoch: p.Epoch, Nats: p.EpochMean.Value()}
		p.Epoch, p.Index, p.EpochMean = p.Epoch+step.epochs, 0, Mean{}
		return t.notify(func(o Observer) error { return o.EpochEnded(end) })
	}
	return nil
}

// lrFactor returns the factor on the learning rate in the next step.
func (t *Trainer) lrFactor() float64 {
	if r := t.Config.RangeTest; r != nil {
		return r.Factor(t.progress.Step)
	}
	return t.schedule.Factor(t.progress.Step)
}

func (t *Trainer) log(step Step) error {
	p := &t.progress
	event := Log{
		Step: step, Nats: p.Window.Value(), Skipped: p.Skipped,
		Phases: p.phases.over(p.windowSteps),
	}
	if total := p.phases.Total().Seconds(); total > 0 {
		event.TokensPerSecond = float64(p.Tokens-p.windowTokens) / total
	}
	p.Window, p.phases, p.windowSteps, p.windowTokens = Mean{}, Phases{}, 0, p.Tokens
	return t.notify(func(o Observer) error { return o.Logged(event) })
}

// afterStep evaluates and offers checkpoints when they are due. After the last step
// finish does so.
func (t *Trainer) afterStep(ctx context.Context) error {
	p, c := &t.progress, t.Config
	if t.done(ctx) {
		return nil
	}
	evaluate, best := p.EvaluationDue, false
	if evaluate && t.Valid != nil {
		var err error
		if best, err = t.evaluateValid(ctx); err != nil {
			return err
		}
	}
	p.EvaluationDue = false
	due := best || c.Checkpoint.Every == 0 && evaluate ||
		c.Checkpoint.Every > 0 && p.Step%c.Checkpoint.Every == 0 ||
		t.control(ctx).save
	if due && p.unsaved {
		return t.save(best)
	}
	return nil
}

// interrupted offers the state for a final checkpoint.
func (t *Trainer) interrupted() error {
	if err := t.save(false); err != nil {
		return err
	}
	return ErrInterrupted
}

// evaluateValid scores valid and records the best result.
func (t *Trainer) evaluateValid(ctx context.Context) (best bool, err error) {
	r, err := t.evaluate(ctx, "valid", t.Valid)
	if err != nil {
		return false, err
	}
	p := &t.progress
	p.EvaluatedAt, p.unsaved = p.Step, true
	best = !math.IsNaN(r.Nats) && !math.IsInf(r.Nats, 0) && (p.Best == nil || r.Nats < *p.Best)
	if best {
		p.Best, p.BestStep, p.Bad = &r.Nats, p.Step, 0
	} else if p.Bad++; t.Config.Eval.Patience > 0 && p.Bad >= t.Config.Eval.Patience {
		p.Stopped = true
	}
	p.Diverged = diverged(r.Nats)
	t.observe(r.Nats)
	t.schedule.Evaluated(best)
	p.Schedule = t.schedule.State
	return best, nil
}

// evaluate scores a split. Where the optimizer averages the weights, the result is that
// of the average.
func (t *Trainer) evaluate(ctx context.Context, split string, open func() (data.Batcher, error)) (Result, error) {
	started := time.Now()
	score := func() (r Result, err error) {
		batches, err := open()
		if err != nil {
			return r, err
		}
		r, err = EvaluateText(ctx, t.Model, batches, t.Device)
		interrupted := errors.Is(err, context.Canceled)
		if err == nil || interrupted {
			r, err = t.reduceResult(r, interrupted)
		}
		return r, err
	}
	var r Result
	var raw *Result
	err := t.averaged(func() (err error) {
		r, err = score()
		return err
	})
	if err == nil && t.Optimizer.Averaging() {
		raw = new(Result)
		*raw, err = score()
	}
	if errors.Is(err, context.Canceled) {
		return r, t.interrupted()
	}
	if err != nil {
		return r, fmt.Errorf("evaluate %s: %w", split, err)
	}
	event := Evaluation{Split: split, Step: t.progress.Step, Tokens: t.progress.Tokens, Result: r, Raw: raw, Took: time.Since(started)}
	return r, t.notify(func(o Observer) error { return o.Evaluated(event) })
}

// finish ends a run normally: it evaluates valid and test once each and offers a
// final checkpoint.
func (t *Trainer) finish(ctx context.Context) error {
	p := &t.progress
	best := false
	if t.Valid != nil && (p.EvaluatedAt != p.Step || p.Step == 0) {
		var err error
		if best, err = t.evaluateValid(ctx); err != nil {
			return err
		}
	}
	p.EvaluationDue = false
	if p.unsaved || p.Step == 0 {
		if err := t.save(best); err != nil {
			return err
		}
	}
	if t.Test != nil {
		if _, err := t.evaluate(ctx, "test", t.Test); err != nil {
			return err
		}
	}
	if p.Diverged && t.Config.MaxSkipped > 0 {
		return &DivergedError{Step: p.Step}
	}
	return nil
}

func (t *Trainer) notify(call func(Observer) error) error {
	for _, o := range t.Observers {
		if err := call(o); err != nil {
			return err
		}
	}
	return nil
}
