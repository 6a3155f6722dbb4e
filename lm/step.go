package lm

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
	"github.com/koala-lm/koala-lm/lm/spec"
)

// stepResult is the outcome of one optimizer step.
type stepResult struct {
	nats   float64 // mean loss over all its tokens
	tokens int64
	length int // optimizer steps of this epoch
	epochs int // number of epochs that ended in it
	info   koala.StepInfo
	phases Phases
}

// step makes one optimizer step: predict, then forward, loss and backward of each
// accumulated batch, then update. KOALA's measurement consists of the mean loss and
// the mean squared loss of all tokens of the step.
func (t *Trainer) step(ctx context.Context) (stepResult, error) {
	var (
		out     stepResult
		unread  unreadLosses
		lengths int // sum of the lengths of all batches
	)
	defer func() { unread.free() }() // of the losses added later
	if err := torch.Seed(uint64(t.Config.Seed), t.progress.Step, int64(t.Group.Rank())); err != nil {
		return out, err
	}
	factor := t.lrFactor()
	t.Optimizer.SetLR(factor)
	t.Optimizer.MeasureLength((t.progress.Step+1)%t.Config.LogEvery == 0)
	started := time.Now()
	if err := t.Optimizer.Predict(); err != nil {
		return out, fmt.Errorf("predict: %w", err)
	}
	out.phases.Optimizer = time.Since(started)
	out.length = max(1, t.Train.Steps()/t.Config.Accumulate)
	epoch := t.Train.Cursor().Epoch
	batches, places, err := t.draw()
	if err != nil {
		return out, err
	}
	out.epochs = t.Train.Cursor().Epoch - epoch
	for i, b := range batches {
		if i == t.Config.Accumulate-1 {
			if err := t.prepareReducer(); err != nil {
				return out, err
			}
		}
		lengths += b.T
		loss, err := t.accumulate(b, float64(b.B*b.T)/float64(places), &out.phases)
		if err != nil {
			return out, err
		}
		unread = append(unread, loss)
	}
	started = time.Now()
	var losses lossSums
	measurement := unread.measurement(&losses)
	if t.Group.Size() > 1 { // the measurement is the group's
		err := torch.Do(func(s *torch.Scope) error {
			for _, l := range unread {
				losses.add(l.Read(s))
			}
			return nil
		})
		if err == nil {
			err = t.reduce(ctx, &losses)
		}
		if err != nil {
			return out, err
		}
		measurement = koala.Known(losses.measurement())
		out.phases.Reduce = lap(&started)
	}
	if nominal := t.Config.BPTT * t.Config.Accumulate; t.Config.VariableBPTT && nominal > 0 {
		// An epoch of longer sequences has fewer steps with a proportionally larger
		// learning rate.
		t.Optimizer.SetLR(factor * float64(lengths) / float64(nominal))
	}
	info, err := t.Optimizer.UpdateFrom(measurement)
	if err != nil {
		return out, fmt.Errorf("update: %w", err)
	}
	out.nats, out.tokens = losses.loss.Value(), losses.loss.Tokens
	out.info = info
	err = t.Optimizer.ZeroGrad()
	out.phases.Optimizer += time.Since(started)
	return out, err
}

// draw returns the batches of one step, and the number of their tokens over all ranks.
func (t *Trainer) draw() (batches []data.Batch, tokens int, err error) {
	for range t.Config.Accumulate {
		b, err := t.Train.Next()
		if err != nil {
			return nil, 0, fmt.Errorf("next batch: %w", err)
		}
		if t.Config.Accumulate > 1 { // the next batch is read into the same memory
			b.Inputs, b.Targets, b.First = slices.Clone(b.Inputs), slices.Clone(b.Targets), slices.Clone(b.First)
		}
		batches = append(batches, b)
		tokens += b.GlobalBatch * b.T
	}
	return batches, tokens, nil
}

// accumulate adds the gradients of one batch to the parameters' gradients. weight is
// the batch's share of the step's tokens: a step's gradient is the gradient of its
// mean loss over all tokens, whatever the batches' lengths.
func (t *Trainer) accumulate(b data.Batch, weight float64, phases *Phases) (*torch.UnreadLoss, error) {
	if err := t.ready(b); err != nil {
		return nil, err
	}
	var loss torch.Loss
	mode := Training
	if t.Config.GradientCheckpointing {
		mode = Recomputing
	}
	pass := func(s *torch.Scope) {
		started := time.Now()
		in := toDevice(s, b, t.Model.TimeMajor(), t.Device)
		var out Features
		forward := func() {
			out = t.Model.Forward(s, in.Input, t.state, mode)
			phases.Forward += lap(&started)
			loss = t.Model.Output().Loss(s, out.States, in.targets, torch.CrossEntropyOptions{Unread: true, Targets: in.host})
			phases.Loss += lap(&started)
		}
		if t.Config.Precision == spec.BFloat16 {
			s.BFloat16(t.Device, forward)
		} else {
			forward()
		}
		objective := t.objective(s, loss.Mean, out.Raw)
		if weight != 1 {
			objective = s.Scale(objective, weight)
		}
		s.Backward(objective)
		phases.Backward += lap(&started)
		if s.OK() {
			s.Keep(loss.Unread.Values)
		}
	}
	err := torch.Do(func(s *torch.Scope) error {
		if t.Config.Precision == spec.TF32 {
			torch.TF32(func() { pass(s) })
		} else {
			pass(s)
		}
		return s.Err()
	})
	return loss.Unread, err
}

// unreadLosses are the losses of a step's batches.
type unreadLosses []*torch.UnreadLoss

// measurement is the optimizer's measurement, by the sums of the losses, which are then in
// sums.
func (u unreadLosses) measurement(sums *lossSums) koala.Reading {
	var r koala.Reading
	for _, l := range u {
		r.Values = append(r.Values, l.Values)
	}
	r.Read = func(values []float64) koala.Measurement {
		for _, l := range u {
			n := torch.Count(l.Values)
			sums.add(l.Numbers(values[:n]))
			values = values[n:]
		}
		return sums.measurement()
	}
	return r
}

func (u unreadLosses) free() {
	for _, l := range u {
		_ = l.Values.Drop()
	}
}

// ready adapts the carried state to the batch.
func (t *Trainer) ready(b data.Batch) error {
	if t.state == nil {
		var err error
		if t.state, err = t.Model.NewState(int64(b.B)); err != nil {
			return err
		}
	}
	t.globalBatch = b.GlobalBatch
	if b.ResetState {
		return t.state.Reset()
	}
	return nil
}

// objective returns the minimized function: the mean loss plus AWD-LSTM's penalties
// on the last layer's outputs h [T, B, D], alpha mean(h^2) + beta mean((h_t -
// h_t-1)^2).
func (t *Trainer) objective(s *torch.Scope, loss, raw *ts.Tensor) *ts.Tensor {
	c := t.Config
	if raw != nil && c.Alpha > 0 {
		loss = s.Add(loss, s.Scale(s.Mean(s.Square(raw)), c.Alpha))
	}
	if steps := torch.Shape(raw); raw != nil && c.Beta > 0 && steps[0] > 1 {
		d := s.Sub(s.Narrow(raw, 0, 1, steps[0]-1), s.Narrow(raw, 0, 0, steps[0]-1))
		loss = s.Add(loss, s.Scale(s.Mean(s.Square(d)), c.Beta))
	}
	return loss
}

// lap returns the time since *from and sets *from to now.
func lap(from *time.Time) time.Duration {
	now := time.Now()
	d := now.Sub(*from)
	*from = now
	return d
}
