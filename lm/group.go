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
)

// A Group is the processes that train one model together, each on its part of the
// texts of every batch (data.Share). All of them have the same weights and take
// the same steps, so they call Sum in the same order.
type Group interface {
	// Rank is this process's number, from 0, and Size how many there are.
	Rank() int
	Size() int
	// Sum adds each tensor up over the group, in place, to the same bits in all
	// processes.
	Sum(tensors ...*ts.Tensor) error
	// Watch begins to watch the gradients of a model's parameters.
	Watch(params []*ts.Tensor) (Watch, error)
}

// A Watch adds gradients up over a group, where that pays while backward still makes
// others.
type Watch interface {
	// Arm says that the next backward pass is the step's last.
	Arm()
	// Sum leaves the gradients' sums in buckets, zeros standing for none, and adds
	// other tensors up beside, in place.
	Sum(others ...*ts.Tensor) ([]torch.Bucket, error)
	Close()
}

// tally is what a step comes to beside its gradients: the losses of its tokens and
// their squares.
type tally struct{ nats, squares Mean }

// wishes are what a process's signals and clock ask for. Where one of a group asks,
// all do it, after the same step.
type wishes struct {
	stop bool // interrupted
	end  bool // the time limit is reached
	save bool // the last checkpoint is too long ago
}

// wishes are those that hold now: alone this process's own, in a group what came
// out of the last step.
func (t *Trainer) wishes(ctx context.Context) wishes {
	if t.Group != nil {
		return t.agreed
	}
	return t.own(ctx)
}

func (t *Trainer) own(ctx context.Context) wishes {
	c := t.Config
	return wishes{
		stop: ctx.Err() != nil,
		end:  c.TimeLimit > 0 && t.progress.Elapsed+time.Since(t.started) >= c.TimeLimit,
		save: c.Checkpoint.Interval > 0 && time.Since(t.saved) >= c.Checkpoint.Interval,
	}
}

// rank is this process's number in its group.
func (t *Trainer) rank() int {
	if t.Group == nil {
		return 0
	}
	return t.Group.Rank()
}

// arm has the gradients of the next backward pass watched.
func (t *Trainer) arm() error {
	if t.watch == nil {
		var params []*ts.Tensor
		for _, p := range t.Model.Params() {
			params = append(params, p.Tensor)
		}
		var err error
		if t.watch, err = t.Group.Watch(params); err != nil {
			return err
		}
	}
	t.watch.Arm()
	return nil
}

// reduce adds the tally and the gradients up over the group. A parameter that has
// no gradient in some process, as the tails of an adaptive softmax may, has zeros
// there; one that has none in any keeps none.
func (t *Trainer) reduce(ctx context.Context, y *tally) error {
	own, params := t.own(ctx), t.Model.Params()
	numbers := []float64{y.nats.Sum, float64(y.nats.Tokens), y.squares.Sum, number(own.stop), number(own.end), number(own.save)}
	known := len(numbers)
	for _, p := range params {
		numbers = append(numbers, number(torch.HasGrad(p.Tensor)))
	}
	return torch.Do(func(s *torch.Scope) error {
		var buckets []torch.Bucket
		numbers, err := t.sum(s, numbers, func(numbers ...*ts.Tensor) (err error) {
			buckets, err = t.watch.Sum(numbers...)
			return err
		})
		if err != nil {
			return err
		}
		has := map[*ts.Tensor]bool{}
		for i, p := range params {
			has[p.Tensor] = numbers[known+i] > 0
		}
		for _, b := range buckets {
			for i, p := range b.Params {
				if has[p] {
					s.SetGrad(p, b.Parts[i])
				}
			}
		}
		y.nats = Mean{Sum: numbers[0], Tokens: int64(numbers[1])}
		y.squares = Mean{Sum: numbers[2], Tokens: y.nats.Tokens}
		t.agreed = wishes{stop: numbers[3] > 0, end: numbers[4] > 0, save: numbers[5] > 0}
		return s.Err()
	})
}

// sum adds numbers up over the group by one of its sums.
func (t *Trainer) sum(s *torch.Scope, numbers []float64, sum func(...*ts.Tensor) error) ([]float64, error) {
	all := s.To(torch.FromSlice(s, numbers, int64(len(numbers))), gotch.Double, t.Device)
	if err := s.Err(); err != nil {
		return nil, err
	}
	if err := sum(all); err != nil {
		return nil, err
	}
	numbers = torch.ToSlice[float64](s, all)
	return numbers, s.Err()
}

// pool makes the result of an evaluation from those of the group's parts. If the
// evaluation was interrupted in one process it was in all.
func (t *Trainer) pool(r Result, interrupted bool) (Result, error) {
	if t.Group != nil {
		err := torch.Do(func(s *torch.Scope) error {
			numbers, err := t.sum(s, []float64{r.Nats * float64(r.Tokens), float64(r.Tokens), number(interrupted)}, t.Group.Sum)
			if err != nil {
				return err
			}
			r = Result{Tokens: int64(numbers[1])}
			if r.Tokens > 0 {
				r.Nats = numbers[0] / numbers[1]
			}
			interrupted = numbers[2] > 0
			return nil
		})
		if err != nil {
			return r, err
		}
	}
	if interrupted {
		return r, context.Canceled
	}
	return r, nil
}

// carried is the recurrent state of the whole batch: in a group each process has
// the rows of its own texts.
func (t *Trainer) carried(s *torch.Scope) ([]*ts.Tensor, error) {
	own := t.state.Tensors()
	if t.Group == nil || len(own) == 0 {
		return own, nil
	}
	all := make([]*ts.Tensor, len(own))
	from, to := data.Part(t.whole, t.Group.Rank(), t.Group.Size())
	for i, rows := range own {
		shape := torch.Shape(rows)
		shape[0] = int64(t.whole)
		all[i] = s.Zeros(shape, gotch.Float, t.Device)
		s.CopyInto(s.Narrow(all[i], 0, int64(from), int64(to-from)), rows)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return all, t.Group.Sum(all...)
}

// restoreCarried takes this process's rows of a batch's recurrent state.
func (t *Trainer) restoreCarried(carried []*ts.Tensor) error {
	shape := torch.Shape(carried[0])
	if len(shape) == 0 {
		return fmt.Errorf("restore the carried state: a tensor without rows")
	}
	t.whole = int(shape[0])
	from, to := 0, t.whole
	if t.Group != nil {
		from, to = data.Part(t.whole, t.Group.Rank(), t.Group.Size())
	}
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

// agree makes sure that the whole group has the same weights, as the same steps
// from the same start give on processors of one kind.
func (t *Trainer) agree() error {
	if t.Group == nil {
		return nil
	}
	own, err := Checksum(t.Model)
	if err != nil {
		return err
	}
	return torch.Do(func(s *torch.Scope) error {
		sums := make([]float64, t.Group.Size())
		sums[t.Group.Rank()] = float64(own)
		sums, err := t.sum(s, sums, t.Group.Sum)
		if err != nil {
			return err
		}
		for rank, v := range sums {
			if v != sums[0] {
				return fmt.Errorf("rank %d has come to other weights than rank 0: ranks need processors of one kind, and the same libraries", rank)
			}
		}
		return nil
	})
}

// Checksum is the CRC-32C of a model's weights.
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

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
