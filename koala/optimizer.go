package koala

import (
	"github.com/sugarme/gotch/ts"
)

// An Optimizer moves parameters by their gradients. It is for one goroutine.
type Optimizer interface {
	// Kind returns the name that New knows it by.
	Kind() string

	// Predict comes before the forward pass. KOALA's filter propagates its
	// state, and KOALA-M moves the parameters; for the baselines it does
	// nothing. Two predictions without an update between them are an error for
	// the KOALA kinds.
	Predict() error

	// Update comes after the backward pass, reads the parameters' gradients and
	// moves the parameters. For the KOALA kinds it is an error without a
	// Predict before it.
	//
	// Where the loss or a gradient is not finite, the parameters and the state
	// stay as they are, StepInfo.NonFinite is set and the error is nil: the
	// filter had no measurement, and the next step begins with Predict again.
	//
	// After an error that is not [ErrPhase] or about m, parameters may have
	// moved in part: restore a saved state or give up.
	Update(m Measurement) (StepInfo, error)

	// ZeroGrad gives the gradients back.
	ZeroGrad() error

	// SetLR sets what a schedule multiplies Options.LR by.
	SetLR(factor float64)

	// LR returns the learning rate in effect, before the groups' factors.
	LR() float64

	// State returns all that a later step depends on beside the parameters. Its
	// tensors are the optimizer's own: read them before the next call.
	State() (State, error)

	// Restore puts a state of the same kind and parameters in place, bit for bit;
	// after an error nothing has changed.
	Restore(State) error

	// Params returns the parameters, each once.
	Params() []*ts.Tensor

	// Close frees the optimizer's tensors, not the parameters.
	Close() error
}

// A Group is parameters that share settings.
type Group struct {
	Params      []*ts.Tensor
	Names       []string // for messages and as keys of the state; nil for p0, p1, ...
	LR          float64  // multiplies the learning rate; 0 means 1
	WeightDecay float64
}

// A Measurement is what the filter observes: the losses of the minibatch's
// samples (for a language model, of its tokens) whose mean was differentiated.
// The baselines look only at whether Loss is finite.
type Measurement struct {
	Loss    float64 // mean of the samples' losses
	LossVar float64 // mean of their squares, KOALA's estimate of the measurement's noise
}

// A StepInfo says what a step did. The filter's numbers are zero for the baselines.
type StepInfo struct {
	Sigma       float64 // variance of the weights after the step (koala-m: P00; koala++: that along the gradient)
	R           float64 // variance of the measurement
	Gain        float64 // share of the loss that the step takes for true, at most 1: variance along the gradient / (that + R), the largest of the tensors
	EffectiveLR float64 // length of the step along the gradient / length of the gradient (koala-d, adam: the factor before the scaled gradient)
	GradNorm    float64 // of all gradients together, before clipping
	Skipped     int     // tensors without a gradient, or for the KOALA kinds one shorter than 1e-9
	NonFinite   bool    // the loss or a gradient was NaN, infinite or beyond what the state can hold; nothing was changed
}

// An Averager is an optimizer that also keeps an average of the weights (asgd).
type Averager interface {
	// Observe takes a validation loss. Once it has not fallen below the best of
	// all but the last Options.Nonmono of them, averaging starts, and Observe
	// returns true that one time.
	Observe(validationLoss float64) (started bool)

	// Averaging reports whether there is an average.
	Averaging() bool

	// Swap exchanges the parameters and their average, for an evaluation or a
	// checkpoint, and back. Without an average it does nothing.
	Swap() error
}
