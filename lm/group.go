package lm

import (
	"context"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/sugarme/gotch"
	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
)

// A ProcessGroup is the ranks that train one model together, each on its shard of
// every global batch (data.Shard). All ranks start from the same weights and take
// the same steps, so they make the same calls in the same order.
type ProcessGroup interface {
	// Rank is this process's number, from 0, and Size the number of ranks.
	Rank() int
	Size() int
	// AllReduce replaces each tensor by its sum over the ranks, in place and with
	// the same bits in all ranks.
	AllReduce(tensors ...*ts.Tensor) error
	// NewReducer makes a reducer of the gradients of params.
	NewReducer(params []*ts.Tensor) (Reducer, error)
}

// A Reducer all-reduces gradients, if worthwhile while backward still computes
// others.
type Reducer interface {
	// PrepareForBackward is called before the last backward pass of a step.
	PrepareForBackward()
	// Finish replaces the gradients by their sums over the ranks, and returns the
	// sums of numbers. A parameter without a gradient in some ranks counts as zeros
	// there; one without a gradient in any rank keeps none.
	Finish(numbers []float64) (sums []float64, err error)
	Close()
}

// SingleProcess is the group of a process that trains alone. Its sums over ranks are
// the rank's own values.
type SingleProcess struct{}

func (SingleProcess) Rank() int                                { return 0 }
func (SingleProcess) Size() int                                { return 1 }
func (SingleProcess) AllReduce(...*ts.Tensor) error            { return nil }
func (SingleProcess) NewReducer([]*ts.Tensor) (Reducer, error) { return singleReducer{}, nil }

type singleReducer struct{}

func (singleReducer) PrepareForBackward()                             {}
func (singleReducer) Finish(numbers []float64) (s []float64, e error) { return numbers, nil }
func (singleReducer) Close()                                          {}

// lossSums holds a step's sums of losses and of squared losses.
type lossSums struct{ loss, square Mean }

func (l *lossSums) add(n torch.LossNumbers) {
	l.loss.Add(n.Nats, n.Tokens)
	l.square.Add(n.MeanSquare, n.Tokens)
}

func (l *lossSums) measurement() koala.Measurement {
	return koala.Measurement{Loss: l.loss.Value(), MeanSquare: l.square.Value()}
}

// controlFlags are requests by a rank's signals and clock. If one rank requests an
// action, all ranks take it after the same step.
type controlFlags struct {
	stop bool // interrupted
	end  bool // the time limit is reached
	save bool // the last checkpoint is too long ago
}

// control returns the flags in effect: the ones that all ranks agreed on in the last
// step. A single process uses its own flags at once.
func (t *Trainer) control(ctx context.Context) controlFlags {
	if t.Group.Size() == 1 {
		return t.requested(ctx)
	}
	return t.agreed
}

// requested returns the flags of this rank.
func (t *Trainer) requested(ctx context.Context) controlFlags {
	c := t.Config
	return controlFlags{
		stop: ctx.Err() != nil,
		end:  c.TimeLimit > 0 && t.progress.Elapsed+time.Since(t.started) >= c.TimeLimit,
		save: c.Checkpoint.Interval > 0 && time.Since(t.saved) >= c.Checkpoint.Interval,
	}
}

// prepareReducer makes the reducer before the first step, and prepares it for the
// last backward pass of this one.
func (t *Trainer) prepareReducer() error {
	if t.reducer == nil {
		var err error
		if t.reducer, err = t.Group.NewReducer(trained(t.Model)); err != nil {
			return err
		}
	}
	t.reducer.PrepareForBackward()
	return nil
}

// reduce all-reduces the gradients, the losses and the control flags of a step.
func (t *Trainer) reduce(ctx context.Context, l *lossSums) error {
	own := t.requested(ctx)
	sums, err := t.reducer.Finish([]float64{
		l.loss.Sum, float64(l.loss.Tokens), l.square.Sum, indicator(own.stop), indicator(own.end), indicator(own.save),
	})
	if err != nil {
		return err
	}
	l.loss = Mean{Sum: sums[0], Tokens: int64(sums[1])}
	l.square = Mean{Sum: sums[2], Tokens: l.loss.Tokens}
	t.agreed = controlFlags{stop: sums[3] > 0, end: sums[4] > 0, save: sums[5] > 0}
	return nil
}

// allReduce returns the sums of numbers over the ranks.
func (t *Trainer) allReduce(numbers ...float64) (sums []float64, err error) {
	err = torch.Do(func(s *torch.Scope) error {
		all := s.To(torch.FromSlice(s, numbers, int64(len(numbers))), gotch.Double, t.Device)
		if err := s.Err(); err != nil {
			return err
		}
		if err := t.Group.AllReduce(all); err != nil {
			return err
		}
		sums = torch.ToSlice[float64](s, all)
		return s.Err()
	})
	return sums, err
}

// reduceResult combines the ranks' evaluation results. An evaluation that was
// interrupted in one rank counts as interrupted in all.
func (t *Trainer) reduceResult(r Result, interrupted bool) (Result, error) {
	if t.Group.Size() > 1 {
		sums, err := t.allReduce(r.Nats*float64(r.Tokens), float64(r.Tokens), indicator(interrupted))
		if err != nil {
			return r, err
		}
		r = Result{Tokens: int64(sums[1])}
		if r.Tokens > 0 {
			r.Nats = sums[0] / sums[1]
		}
		interrupted = sums[2] > 0
	}
	if interrupted {
		return r, context.Canceled
	}
	return r, nil
}

// gatherState returns the recurrent state of the global batch, layer by layer [B,
// ...], from the rows of each rank's shard.
func (t *Trainer) gatherState(s *torch.Scope) ([]*ts.Tensor, error) {
	shard := t.state.Tensors()
	if t.Group.Size() == 1 || len(shard) == 0 {
		return shard, nil
	}
	all := make([]*ts.Tensor, len(shard))
	from, to := data.ShardRange(t.globalBatch, t.Group.Rank(), t.Group.Size())
	for i, rows := range shard {
		shape := torch.Shape(rows)
		shape[0] = int64(t.globalBatch)
		all[i] = s.Zeros(shape, gotch.Float, t.Device)
		s.CopyInto(s.Narrow(all[i], 0, int64(from), int64(to-from)), rows)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return all, t.Group.AllReduce(all...)
}

// scatterState takes this rank's rows of the global batch's recurrent state.
func (t *Trainer) scatterState(carried []*ts.Tensor) error {
	shape := torch.Shape(carried[0])
	if len(shape) == 0 {
		return fmt.Errorf("restore the carried state: a tensor without rows")
	}
	t.globalBatch = int(shape[0])
	from, to := data.ShardRange(t.globalBatch, t.Group.Rank(), t.Group.Size())
	state, err := t.Model.NewState(int64(to - from))
	if err != nil {
		return err
	}
	t.state.Close()
	t.state = state
	return torch.Do(func(s *torch.Scope) error {
		rows := make([]*ts.Tensor, len(carried))
		for i, c := range carried {
			rows[i] = s.Narrow(c, 0, int64(from), int64(to-from))
		}
		if err := s.Err(); err != nil {
			return err
		}
		if err := copyAll(state.Tensors(), rows); err != nil {
			return fmt.Errorf("restore the carried state: %w", err)
		}
		return nil
	})
}

// verifyReplicas returns an error unless all ranks have the same weights. The same
// steps from the same start give them on processors of one kind.
func (t *Trainer) verifyReplicas() error {
	if t.Group.Size() == 1 {
		return nil
	}
	own, err := Checksum(t.Model)
	if err != nil {
		return err
	}
	sums := make([]float64, t.Group.Size())
	sums[t.Group.Rank()] = float64(own)
	if sums, err = t.allReduce(sums...); err != nil {
		return err
	}
	for rank, v := range sums {
		if v != sums[0] {
			return fmt.Errorf("the weights of rank %d differ from rank 0's: ranks need processors of one kind, and the same libraries", rank)
		}
	}
	return nil
}

// Checksum returns the CRC-32C of a model's weights.
func Checksum(m Model) (uint32, error) {
	sum, table := uint32(0), crc32.MakeTable(crc32.Castagnoli)
	err := torch.Do(func(s *torch.Scope) error {
		for _, p := range m.Params() {
			content := make([]byte, torch.ByteCount(p.Tensor))
			s.NoGrad(func() { s.ReadBytes(content, p.Tensor) })
			sum = crc32.Update(sum, table, content)
		}
		return s.Err()
	})
	return sum, err
}

// indicator is 1 for true, so that a sum over the ranks says whether any rank's flag
// is set.
func indicator(set bool) float64 {
	if set {
		return 1
	}
	return 0
}
