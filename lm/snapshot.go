package lm

import (
	"fmt"
	"time"

	"github.com/sugarme/gotch/ts"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/torch"
	"github.com/koala-lm/koala-lm/koala"
)

// Progress is a run's state without its tensors.
type Progress struct {
	Step          int64         `json:"step"`   // optimizer steps done
	Tokens        int64         `json:"tokens"` // number of tokens trained on
	Epoch         int           `json:"epoch"`  // passes done
	Index         int           `json:"index"`  // steps done in this pass
	Elapsed       time.Duration `json:"elapsed"`
	Window        Mean          `json:"window"` // since the last log line
	EpochMean     Mean          `json:"epoch_mean"`
	Skipped       int64         `json:"skipped"`
	SkippedInARow int           `json:"skipped_in_a_row"`   // these, and steps with a loss that has diverged
	Diverged      bool          `json:"diverged,omitempty"` // the last loss on valid has; the last step's without valid
	Best          *float64      `json:"best"`               // nats on valid; null before the first evaluation
	BestStep      int64         `json:"best_step"`          // step of that evaluation
	Bad           int           `json:"bad"`                // evaluations since then
	EvaluationDue bool          `json:"evaluation_due"`
	EvaluatedAt   int64         `json:"evaluated_at"`
	Stopped       bool          `json:"stopped"` // by the patience
	Schedule      ScheduleState `json:"schedule"`

	phases       Phases
	windowSteps  int
	windowTokens int64
	unsaved      bool // steps were made since the last snapshot
}

// A Snapshot is the complete state of a run: after Restore, training continues with
// the same bits. Its tensors belong to the trainer and are valid until the next
// step.
type Snapshot struct {
	Progress  Progress
	Cursor    data.Cursor
	Weights   []Param
	Carried   []*ts.Tensor // the recurrent state, layer by layer
	Optimizer koala.State
}

// snapshot collects the state between two steps.
func (t *Trainer) snapshot(s *torch.Scope) (*Snapshot, error) {
	state, err := t.Optimizer.State()
	if err != nil {
		return nil, fmt.Errorf("optimizer state: %w", err)
	}
	carried, err := t.gatherState(s)
	if err != nil {
		return nil, err
	}
	progress := t.progress
	progress.Elapsed += time.Since(t.started)
	return &Snapshot{
		Progress: progress, Cursor: t.Train.Cursor(), Weights: t.Model.Params(),
		Carried: carried, Optimizer: state,
	}, nil
}

// save offers the state to the observers. All ranks of a group gather it, even if
// one of them alone has observers.
func (t *Trainer) save(best bool) error {
	t.saved = time.Now()
	if t.progress.unsaved = false; len(t.Observers) == 0 && t.Group.Size() == 1 {
		return nil
	}
	if err := t.verifyReplicas(); err != nil {
		return err
	}
	return t.averaged(func() error {
		return torch.Do(func(s *torch.Scope) error {
			snap, err := t.snapshot(s)
			if err != nil {
				return err
			}
			return t.notify(func(o Observer) error { return o.Checkpoint(snap, best) })
		})
	})
}

// Restore sets the trainer to the state of a snapshot. Call it before Run. It copies
// the tensors.
func (t *Trainer) Restore(snap *Snapshot) error {
	t.defaultGroup()
	if err := restoreWeights(t.Model, snap.Weights); err != nil {
		return err
	}
	if err := t.Optimizer.Restore(snap.Optimizer); err != nil {
		return fmt.Errorf("restore the optimizer: %w", err)
	}
	if err := t.unaverage(); err != nil {
		return fmt.Errorf("restore the optimizer: %w", err)
	}
	if err := t.Train.Seek(snap.Cursor); err != nil {
		return fmt.Errorf("restore the place in the data: %w", err)
	}
	t.progress = snap.Progress
	t.progress.windowTokens = snap.Progress.Tokens - snap.Progress.Window.Tokens
	if len(snap.Carried) > 0 {
		return t.scatterState(snap.Carried)
	}
	return nil
}

func restoreWeights(m Model, from []Param) error {
	byName := map[string]*ts.Tensor{}
	for _, p := range from {
		byName[p.Name] = p.Tensor
	}
	var dst, src []*ts.Tensor
	for _, p := range m.Params() {
		saved, ok := byName[p.Name]
		if !ok {
			return fmt.Errorf("restore the weights: %s is missing", p.Name)
		}
		dst, src = append(dst, p.Tensor), append(src, saved)
	}
	if len(byName) != len(dst) {
		return fmt.Errorf("restore the weights: %d tensors for a model of %d", len(byName), len(dst))
	}
	if err := copyAll(dst, src); err != nil {
		return fmt.Errorf("restore the weights: %w", err)
	}
	return nil
}

// copyAll overwrites each tensor of dst with its counterpart in src, which has the
// same shape.
func copyAll(dst, src []*ts.Tensor) error {
	if len(dst) != len(src) {
		return fmt.Errorf("%d tensors where %d are expected", len(src), len(dst))
	}
	return torch.Do(func(s *torch.Scope) error {
		s.NoGrad(func() {
			for i := range dst {
				if a, b := torch.Describe(dst[i]), torch.Describe(src[i]); a != b {
					s.Fail(fmt.Errorf("tensor %d is %s, expected %s", i, b, a))
				}
				s.CopyInto(dst[i], src[i])
			}
		})
		return s.Err()
	})
}
