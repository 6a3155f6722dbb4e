package lm

import (
	"time"

	"github.com/koala-lm/koala-lm/koala"
)

// An Observer observes training, in the loop's goroutine. An error ends the run.
// Embed NoObserver to ignore the other calls.
type Observer interface {
	// Stepped is called after every optimizer step, Logged after every LogEvery
	// steps.
	Stepped(Step) error
	Logged(Log) error
	// Evaluated is called after an evaluation of a split.
	Evaluated(Evaluation) error
	// EpochEnded is called after the last step of a pass over the training text.
	EpochEnded(Epoch) error
	// Checkpoint asks the observer to save the state; best says that the last
	// evaluation is the best so far. The tensors are valid only during the call.
	Checkpoint(state *Snapshot, best bool) error
}

// NoObserver ignores everything.
type NoObserver struct{}

func (NoObserver) Stepped(Step) error               { return nil }
func (NoObserver) Logged(Log) error                 { return nil }
func (NoObserver) Evaluated(Evaluation) error       { return nil }
func (NoObserver) EpochEnded(Epoch) error           { return nil }
func (NoObserver) Checkpoint(*Snapshot, bool) error { return nil }

// Phases are the times of one step's parts. Reduce is the time of the all-reduce
// over a group, waiting included.
type Phases struct{ Forward, Loss, Backward, Reduce, Optimizer time.Duration }

func (p Phases) add(q Phases) Phases {
	return Phases{p.Forward + q.Forward, p.Loss + q.Loss, p.Backward + q.Backward, p.Reduce + q.Reduce, p.Optimizer + q.Optimizer}
}

// over is the mean of n steps that took p together.
func (p Phases) over(n int) Phases {
	d := time.Duration(max(1, n))
	return Phases{p.Forward / d, p.Loss / d, p.Backward / d, p.Reduce / d, p.Optimizer / d}
}

// Total is the time of the whole step.
func (p Phases) Total() time.Duration {
	return p.Forward + p.Loss + p.Backward + p.Reduce + p.Optimizer
}

// Step describes one optimizer step.
type Step struct {
	Step      int64 // steps done, this one included
	Tokens    int64 // tokens trained on since the run's start
	Epoch     int   // from 0
	Index     int   // steps done in this epoch
	Length    int   // steps of this epoch
	Nats      float64
	LR        float64
	Optimizer koala.StepInfo
	Phases    Phases
}

// Log sums up the steps since the last one.
type Log struct {
	Step            Step // the last step
	Nats            float64
	TokensPerSecond float64
	Phases          Phases // mean of a step
	Skipped         int64  // number of steps skipped since the run's start
}

// Epoch sums up a pass over the training text.
type Epoch struct {
	Step, Tokens int64
	Epoch        int // number, from 0
	Nats         float64
}

// Evaluation is a split's loss.
type Evaluation struct {
	Split        string // "valid" or "test"
	Step, Tokens int64  // of training, when it was made
	Result       Result
	Raw          *Result // of the weights themselves, where Result is of their average
	Took         time.Duration
}
